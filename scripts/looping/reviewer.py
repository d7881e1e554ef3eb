"""Somebody who knows what the collected photos show, and reviews them through the page's own API."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import requests

_SESSION = "rehearsal"
_TIMEOUT_S = 60


class ReviewError(Exception):
    """The page does not start, or rejects a decision; the message is for the user."""


def review(project: Path, store: Path, labels: Mapping[str, str], env: Mapping[str, str]) -> int:
    """Decide about every collected photo; return the number of decisions.

    Args:
        project: the repository, where the decisions are written.
        store: folder with the collected photos.
        labels: what the photo of each request shows, by the `request_id` of its answer.
        env: environment of the command.

    Raises:
        ReviewError: it fails.
    """
    records = [json.loads(path.read_text("utf-8")) for path in store.glob("*/*.json")]
    actual = {record["id"]: labels[record["request_id"]] for record in records}
    command = [sys.executable, "-m", "ml", "review", str(store), "--port", "0"]
    with subprocess.Popen(  # noqa: S603
        command, cwd=project, env=dict(env), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        try:
            return _decide(_address(process), actual)
        except (requests.RequestException, KeyError) as error:
            raise ReviewError(f"the review page: {error}") from error
        finally:
            process.terminate()


def _address(process: "subprocess.Popen[str]") -> str:
    said = []
    for line in process.stderr or ():
        if line.startswith("http://"):
            return line.split()[0]
        said.append(line)
    raise ReviewError(f"the review page does not start: {''.join(said)}")


def _decide(url: str, actual: Mapping[str, str]) -> int:
    decisions = 0
    with requests.Session() as session:
        while item := session.get(f"{url}next", params={"session": _SESSION}, timeout=_TIMEOUT_S).json()[
            "item"
        ]:
            label = actual[item["photos"][0]["id"]]
            body = {"session": _SESSION, "item": item["id"], "action": "label", "label": label}
            session.post(f"{url}decisions", json=body, timeout=_TIMEOUT_S).raise_for_status()
            decisions += 1
    return decisions
