import math
import subprocess
import sys
from pathlib import Path

import pytest

from app import host

_COUNT = """
import ctypes, re, sys, tempfile, threading
from app import host

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
bounded = host.bound_freed_memory() if sys.argv[1] == "bounded" else None
barrier = threading.Barrier(8)

def allocate():
    barrier.wait()
    for _ in range(200):
        assert libc.malloc(1000)
    barrier.wait()

threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads: thread.start()
for thread in threads: thread.join()
libc.fopen.restype = ctypes.c_void_p
with tempfile.NamedTemporaryFile() as file:
    stream = ctypes.c_void_p(libc.fopen(file.name.encode(), b"w"))
    libc.malloc_info(0, stream)
    libc.fclose(stream)
    print(bounded, len(re.findall(r"<heap nr=", file.read().decode())))
"""


def arenas(how: str) -> tuple[str, int]:
    done = subprocess.run([sys.executable, "-c", _COUNT, how], capture_output=True, text=True, check=True)
    bounded, count = done.stdout.split()
    return bounded, int(count)


def test_threads_share_two_arenas() -> None:
    if sys.platform != "linux" or arenas("free")[1] <= 2:
        pytest.skip("this C library gives threads no arenas of their own")
    assert arenas("bounded") == ("True", 2)


_LARGE_BLOCKS = """
import ctypes, re, sys, tempfile
from app import host

libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
if sys.argv[1] == "bounded": host.bound_freed_memory()
libc.free(libc.malloc(30 << 20))
kept = libc.malloc(8 << 20)
libc.fopen.restype = ctypes.c_void_p
with tempfile.NamedTemporaryFile() as file:
    stream = ctypes.c_void_p(libc.fopen(file.name.encode(), b"w"))
    libc.malloc_info(0, stream)
    libc.fclose(stream)
    print(re.search(r'type="mmap" count="(\\d+)"', file.read().decode()).group(1))
"""


def test_a_large_photo_does_not_change_where_the_next_one_goes() -> None:
    def mapped(how: str) -> int:
        command = [sys.executable, "-c", _LARGE_BLOCKS, how]
        return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    if sys.platform != "linux" or arenas("free")[1] <= 2:
        pytest.skip("this C library has no such threshold")
    assert mapped("bounded") == mapped("free") + 1


@pytest.mark.parametrize(
    ("files", "membership", "expected"),
    [
        ({"memory.max": "536870912\n"}, "0::/\n", 512 * 2**20),
        ({"memory.max": "max\n"}, "0::/\n", math.inf),
        ({"a/memory.max": "1000000", "a/b/memory.max": "2000000"}, "0::/a/b\n", 1_000_000),
        ({"memory/memory.limit_in_bytes": "300000000\n"}, "5:memory:/\n3:cpu:/\n", 300_000_000),
        ({"memory/memory.limit_in_bytes": "9223372036854771712\n"}, "5:memory:/\n", math.inf),
        ({"memory.max": "rubbish"}, "0::/\n", math.inf),
        ({}, "0::/\n", math.inf),
    ],
)
def test_the_memory_limit_of_a_control_group(tmp_path: Path, files, membership, expected) -> None:
    for name, text in files.items():
        (tmp_path / "cg" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cg" / name).write_text(text)
    (tmp_path / "membership").write_text(membership)
    assert host.memory_limit(tmp_path / "cg", tmp_path / "membership") == expected
