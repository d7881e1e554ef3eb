"""Settings of the C library and of OpenMP for training."""

import os
import subprocess
import sys

import pytest

_STEPS = """
import resource, sys
import numpy as np
from ml.model.allocator import keep_freed_memory
kept = keep_freed_memory() if sys.argv[1] == "kept" else None
for _ in range(2):
    np.ones(8_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    np.ones(8_000_000)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how: str) -> tuple[str, int]:
    done = subprocess.run([sys.executable, "-c", _STEPS, how], capture_output=True, text=True, check=True)
    kept, count = done.stdout.split()
    return kept, int(count)


def test_freed_memory_is_reused():
    if sys.platform != "linux" or page_faults("free")[1] < 1000:
        pytest.skip("this C library keeps large blocks by itself")
    kept, count = page_faults("kept")
    assert kept == "True"
    assert count < 100


@pytest.mark.parametrize(("given", "expected"), [({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")])
def test_threads_wait_without_spinning_by_default(given, expected):
    env = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"} | given
    code = "import ml, os; print(os.environ['OMP_WAIT_POLICY'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.strip() == expected
