"""Simulated traffic of two versions: counts per block, as the reader gives them to the judge."""

from dataclasses import dataclass

import numpy as np

from deploy.canary.counts import Counts

LOOKS = 120
"""In two steps of 15 minutes, every 15 s."""


@dataclass(frozen=True)
class Version:
    """How a version behaves: shares of its requests, photos and answers."""

    errors: float = 0.001
    slow: float = 0.008
    unknown: float = 0.04
    unsure: float = 0.1
    wrong: float = 0.03
    cats: float = 0.5
    """Of the photos that are not unknown."""

    @property
    def dogs(self) -> float:
        return 1 - self.cats


@dataclass(frozen=True)
class Traffic:
    """Photos per look, the candidate's share at each look, and how many answers get feedback."""

    photos: float
    feedback: float = 0.1
    shares: tuple[float, ...] = (0.1,) * (LOOKS // 2) + (0.5,) * (LOOKS // 2)


def simulate(
    chance: np.random.Generator, candidate: Version, traffic: Traffic, champion: Version | None = None
) -> dict[tuple[str, str], Counts]:
    """Return the counts of each look."""
    champion, shares = champion or Version(), np.array(traffic.shares)
    photos = chance.poisson(np.stack([1 - shares, shares]) * traffic.photos)

    def share(name: str, trials: np.ndarray) -> Counts:
        rates = np.array([[getattr(champion, name)], [getattr(candidate, name)]])
        return Counts(trials.astype(float), chance.binomial(trials, rates).astype(float))

    rules = {(name, ""): share(name, photos) for name in ("errors", "slow", "unknown", "unsure")}
    with_class = (photos - rules["unknown", ""].events).astype(int)
    labels = {("labels", name): share(name, with_class) for name in ("cats", "dogs")}
    judged = chance.binomial(photos, traffic.feedback)
    return rules | labels | {("feedback", ""): share("wrong", judged)}
