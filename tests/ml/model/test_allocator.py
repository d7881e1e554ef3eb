"""Settings of the C library, and of OpenMP for training."""

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


_HEAD = """
import ctypes, re, sys, tempfile, threading
from ml.model import allocator

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
libc.fopen.restype = ctypes.c_void_p

def info():
    with tempfile.NamedTemporaryFile() as file:
        stream = ctypes.c_void_p(libc.fopen(file.name.encode(), b"w"))
        libc.malloc_info(0, stream)
        libc.fclose(stream)
        return file.read().decode()

if sys.argv[1] == "bounded":
    assert allocator.bound_freed_memory()
"""
_ARENAS = """
barrier = threading.Barrier(8)

def allocate():
    barrier.wait()
    for _ in range(200):
        assert libc.malloc(1000)
    barrier.wait()

threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(re.findall(r"<heap nr=", info())))
"""
_LARGE_BLOCKS = """
libc.free(libc.malloc(30 << 20))
kept = libc.malloc(8 << 20)
print(re.search(r'type="mmap" count="(\\d+)"', info()).group(1))
"""


def printed(code: str, how: str) -> int:
    command = [sys.executable, "-c", _HEAD + code, how]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc has arenas and such a threshold")
def test_threads_share_two_arenas_and_a_large_photo_does_not_change_where_the_next_one_goes() -> None:
    if printed(_ARENAS, "free") <= 2:
        pytest.skip("this C library gives threads no arenas of their own")
    assert printed(_ARENAS, "bounded") == 2
    assert printed(_LARGE_BLOCKS, "bounded") == printed(_LARGE_BLOCKS, "free") + 1
