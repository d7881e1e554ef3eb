"""A training that ends in the middle."""

import contextlib
from collections.abc import Callable, Iterator

import pytest

from ml.training.loop import Loop


class KilledError(Exception):
    """Stands for a kill."""


@contextlib.contextmanager
def killed_after_an_epoch(of: Callable[[Loop], bool] = lambda _: True) -> Iterator[None]:
    """Have the training in the context end as soon as an epoch is saved, if `of` is true for its loop."""
    save = Loop._save

    def save_and_die(loop: Loop) -> None:
        save(loop)
        if of(loop):
            raise KilledError

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Loop, "_save", save_and_die)
        with pytest.raises(KilledError):
            yield
