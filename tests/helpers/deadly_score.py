"""`python -m ml score`, except that a photo named `deadly...` kills the process that scores it.

No photo is known that Pillow or ONNX Runtime does not survive. A process that uses up the memory, or that
meets a bug of a library in C, ends like this one: at once, without an exception.
"""

import functools
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import PurePath

import pyarrow as pa

from ml.__main__ import COMMANDS
from ml.cli import run
from ml.scoring import output, ray_engine
from ml.scoring.scorer import Scorer


class DeadlyScorer(Scorer):
    """Ray sends this class to the nodes with its code, because it is defined in the main program."""

    def score(self, paths: Sequence[str]) -> pa.Table:
        if any(PurePath(path).name.startswith("deadly") for path in paths):
            os.kill(os.getpid(), signal.SIGSEGV)
        return super().score(paths)


if __name__ == "__main__":
    output.PART_S = 1.0  # a part file each second, so that few photos are enough to be killed in between
    batch = int(os.environ.get("TEST_BATCH", "256"))
    ray_engine.run = functools.partial(ray_engine.run, load=DeadlyScorer, batch=batch)
    sys.exit(run("ml", "Score.", COMMANDS, ["score", *sys.argv[1:]]))
