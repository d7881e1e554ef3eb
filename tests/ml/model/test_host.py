"""Limits of control groups."""

import math
from pathlib import Path

import pytest

from ml.model import host

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
        (CPU, {"a:b/cpu.max": "50000 100000"}, "0::/a:b\n", 0.5),
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
