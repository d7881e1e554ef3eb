"""Limits of control groups, and the C library's allocator in a process with many threads."""

import math
import subprocess
import sys
from pathlib import Path

import pytest

from app import host

_HEAD = """
import ctypes, re, sys, tempfile, threading
from app import host

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
    assert host.bound_freed_memory()
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


CPU, MEMORY = host.cpu_quota, host.memory_limit
VERSION_1 = ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us")


@pytest.mark.parametrize(
    ("limit", "files", "membership", "expected"),
    [
        (CPU, {"cpu.max": "150000 100000\n"}, "0::/\n", 1.5),
        (CPU, {"cpu.max": "max 100000\n"}, "0::/\n", math.inf),
        (CPU, {"a/cpu.max": "50000 100000", "a/b/cpu.max": "max 100000"}, "0::/a/b\n", 0.5),
        (CPU, {"cpu.max": "200000 100000"}, "0::/not/to/be/seen\n", 2.0),
        (CPU, dict(zip(VERSION_1, ("300000\n", "100000\n"), strict=True)), "4:cpu,cpuacct:/\n", 3.0),
        (CPU, dict(zip(VERSION_1, ("-1\n", "100000\n"), strict=True)), "4:cpu,cpuacct:/\n", math.inf),
        (CPU, {"cpu.max": "rubbish"}, "0::/\n", math.inf),
        (CPU, {}, "0::/\n", math.inf),
        (MEMORY, {"memory.max": "536870912\n"}, "0::/\n", 512 * 2**20),
        (MEMORY, {"memory.max": "max\n"}, "0::/\n", math.inf),
        (MEMORY, {"a/memory.max": "1000000", "a/b/memory.max": "2000000"}, "0::/a/b\n", 1_000_000),
        (MEMORY, {"memory/memory.limit_in_bytes": "300000000\n"}, "5:memory:/\n3:cpu:/\n", 300_000_000),
        (MEMORY, {"memory/memory.limit_in_bytes": "9223372036854771712\n"}, "5:memory:/\n", math.inf),
        (MEMORY, {"memory.max": "rubbish"}, "0::/\n", math.inf),
        (MEMORY, {}, "0::/\n", math.inf),
    ],
)
def test_the_limits_of_a_control_group(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit, files, membership, expected
) -> None:
    for name, text in {"membership": membership, **files}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(host, "CGROUPS", tmp_path)
    monkeypatch.setattr(host, "MEMBERSHIP", tmp_path / "membership")
    assert limit() == expected
    assert host.available_cpus() >= 1
