"""The smallest fleet that meets the goals, and the command that prints it."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from scripts.capacity import main
from scripts.fleet import planning
from scripts.fleet.planning import Goal, PlanError, Service, constant_fleet, scaled_fleet, smallest
from scripts.fleet.pods import Limits
from scripts.fleet.simulation import Autoscaler, Load
from scripts.fleet.times import Times, TimesError, parse, read

MODEL = Service(Times(np.array([0.01])), Limits(), "random", 1)
GOAL = Goal(p99_ms=50, rejected=0.01)


@pytest.fixture(autouse=True)
def fewer_photos(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "_PHOTOS", 10_000)
    monkeypatch.setattr(planning, "_FEWEST_PHOTOS", 5000)
    monkeypatch.setattr(planning, "_MOST_PHOTOS", 20_000)


@pytest.mark.parametrize("answer", [1, 2, 3, 7, 8, 100])
@pytest.mark.parametrize("low", [1, 2])
def test_the_smallest_number_is_found(answer: int, low: int) -> None:
    assert smallest(lambda number: number >= answer, low) == max(answer, low)


def test_no_number_is_enough() -> None:
    with pytest.raises(PlanError, match="pods are enough"):
        smallest(lambda _: False, 1)
    with pytest.raises(PlanError, match="without any waiting, 99 % of the answers take up to 10 ms"):
        constant_fleet(MODEL, 10, Goal(p99_ms=10, rejected=0.01))


def test_one_pod_fewer_misses_the_goal() -> None:
    plan = constant_fleet(MODEL, 250, GOAL)
    assert plan.least > 2.5  # at 2.5, workers never rest
    assert GOAL.met(plan.outcome)
    assert not GOAL.met(MODEL.constant(plan.least - 1, 250))


def test_a_large_fleet_is_planned_from_a_slice_of_it() -> None:
    """Pods that get photos at random don't know of each other."""
    small, large = (constant_fleet(MODEL, rate, GOAL) for rate in (500, 50_000))
    assert large.least == pytest.approx(100 * small.least, rel=0.1)
    assert large.outcome.mean_pods == pytest.approx(large.least)


def test_a_harder_goal_a_worse_balancer_and_a_burst_need_more_pods() -> None:
    pods = constant_fleet(MODEL, 250, GOAL).least
    assert constant_fleet(MODEL, 250, Goal(20, 0.01)).least > pods
    assert constant_fleet(replace(MODEL, balance="least"), 250, GOAL).least <= pods
    assert constant_fleet(MODEL, 500, GOAL).least > pods


def test_an_autoscaler_needs_a_minimum_if_pods_start_slowly() -> None:
    load = Load(100, burst=4.0, seconds=120)
    most = constant_fleet(MODEL, 400, GOAL).least
    fast, slow = (
        scaled_fleet(MODEL, load, Autoscaler(0.5, 1, start_s=start_s, every_s=every_s), GOAL, most)
        for start_s, every_s in ((0, 1), (60, 15))
    )
    assert fast.least < slow.least <= most
    assert GOAL.met(fast.outcome)
    assert GOAL.met(slow.outcome)


def test_an_autoscaler_keeps_to_its_maximum() -> None:
    load = Load(100, burst=2.0, seconds=60)
    enough = scaled_fleet(MODEL, load, Autoscaler(0.1, 1, most=4), GOAL, 4)  # it would start with ten
    assert enough.least <= enough.outcome.most_pods <= 4
    with pytest.raises(PlanError, match=r"^2 pods are not enough"):
        scaled_fleet(MODEL, load, Autoscaler(0.1, 1, most=2), GOAL, 4)


BENCH = """\
                answers per second           CPU ms per answer         latency, ms
connections   service     limit   ratio   service     limit    ratio   median      p99
          1     200.0     500.0    0.40      4.00      2.00    2.00      5.0      6.0
          8     400.0     500.0    0.80      4.00      2.00    2.00     19.0     26.0
workers: 2, memory (PSS): 77 MB idle, 90 MB after load
"""
LOAD_TEST = """\
answer      count per second   median      p99      max  (ms)
/health        20       10.0      1.0      2.0      2.1
200            40       20.0      5.0      8.0      9.0
"""


def test_times_of_a_file_and_of_the_other_scripts() -> None:
    assert parse("1\n2.5\n\n3\n").service.tolist() == [0.001, 0.0025, 0.003]
    bench = parse(BENCH)
    # Two workers answer 400 per second: 5 ms each, but a single answer takes hardly longer.
    assert bench.mean == pytest.approx(0.005)
    assert 0 < bench.overhead_s < 0.0005
    assert parse(BENCH.replace("400.0", "250.0")).mean == pytest.approx(0.008)  # workers disturb each other
    load_test = parse(LOAD_TEST)
    assert np.quantile(load_test.service, (0.5, 0.99)) == pytest.approx([0.005, 0.008], rel=0.01)


@pytest.mark.parametrize(
    "text",
    ["", "-1", "0", "nan", "inf", "1e300", "one\n", "1,2", BENCH.replace("workers", "workmen"),
     BENCH.replace("          1 ", "          2 "), BENCH.replace("400.0", "0.0"),
     LOAD_TEST.replace("   5.0      8.0", "   8.0      5.0")],
)  # fmt: skip
def test_what_has_no_times_is_one_line(text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TimesError):
        parse(text)
    file = tmp_path / "times.txt"
    file.write_text(text)
    assert main([str(file)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"error: {file}: expected ")
    assert error.count("\n") == 1


def test_files_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "times.bin").write_bytes(b"\xff\xfe")
    with pytest.raises(TimesError, match=r"times\.bin"):
        read(tmp_path / "times.bin")
    assert main([str(tmp_path / "none")]) == 1


def test_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "times.txt"
    file.write_text("10\n")
    arguments = [str(file), "--rates", "10,1000", "--burst", "2", "--seconds", "60", "--target", "0.5"]
    arguments += ["--price", "0.5"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("mean service time: 10.00 ms, overhead: 0.00 ms\n")
    rows = [line.split() for line in printed.splitlines()[2:]]
    assert [row[:2] for row in rows] == [
        [rate, kind] for rate in ("10", "1000") for kind in ("constant", "scaled")
    ]
    for row in rows:
        mean, p99, rejected, hourly, million = (float(re.sub("%", "", row[n])) for n in (4, 7, 8, 9, 10))
        assert hourly == pytest.approx(0.5 * mean, abs=0.03)
        assert million == pytest.approx(hourly / (2 * float(row[0]) * 3600) * 1e6, rel=0.05)
        assert p99 <= 1000
        assert rejected <= 0.5
    assert main(arguments) == 0
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize(
    "arguments",
    [["--rates", "0"], ["--rates", "1,x"], ["--burst", "0.5"], ["--workers", "0"], ["--p99-ms", "nan"],
     ["--price", "-1"], ["--target", "0"], ["--balance", "best"]],
)  # fmt: skip
def test_arguments_that_are_not_valid(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["times.txt", *arguments])
    assert "usage: " in capsys.readouterr().err
