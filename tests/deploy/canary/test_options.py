"""The options of a canary: what is rejected before anything changes."""

import argparse

import pytest

from deploy.canary.options import PROMOTE, configure, options
from deploy.target import DeployError

PROMETHEUS = ("--prometheus", "http://localhost:9090")


def parsed(*arguments: str):
    parser = argparse.ArgumentParser()
    configure(parser)
    return options(parser.parse_args(arguments))


@pytest.fixture(autouse=True)
def no_environment(monkeypatch) -> None:
    for name in ("PROMETHEUS_URL", "PROMETHEUS_TOKEN"):
        monkeypatch.delenv(name, raising=False)


def test_without_canary_there_is_none() -> None:
    assert parsed() is None


def test_good_options(monkeypatch) -> None:
    monkeypatch.setenv("PROMETHEUS_URL", "https://prometheus.example.org/base/")
    monkeypatch.setenv("PROMETHEUS_TOKEN", "secret")
    made = parsed(
        "--canary", "5,25,50", "--minutes", "0.5", "--tolerance", "labels=0.1", "--too-little", "promote"
    )
    assert made
    assert made.shares == (5, 25, 50)
    assert made.step_s == 30
    assert made.prometheus == "https://prometheus.example.org/base/"
    assert made.token == "secret"
    assert made.tolerances == {"labels": 0.1}
    assert made.too_little == PROMOTE
    assert parsed("--canary", "10,50", "--minutes", "625")  # 5000 looks


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--canary", "10,50"), "--canary needs --prometheus or PROMETHEUS_URL"),
        (("--canary", "10", "--prometheus", "http://user:password@host"), "without user"),
        (("--canary", "0,10", *PROMETHEUS), "from 1 to 99"),
        (("--canary", "50,10", *PROMETHEUS), "ascend"),
        (("--canary", "100", *PROMETHEUS), "--canary must be"),
        (("--canary", "ten", *PROMETHEUS), "--canary must be"),
        (("--canary", "10", "--minutes", "0", *PROMETHEUS), "--minutes and --look"),
        (("--canary", "10", "--minutes", "nan", *PROMETHEUS), "--minutes and --look"),
        (("--canary", "10", "--minutes", "1", "--look", "61", *PROMETHEUS), "--minutes and --look"),
        (("--canary", "10,50", "--minutes", "626", *PROMETHEUS), "more than 5000 looks"),
        (("--canary", "10", "--false-alarms", "0", *PROMETHEUS), "--false-alarms"),
        (("--canary", "10", "--least", "0", *PROMETHEUS), "--least"),
        (("--canary", "10", "--job", 'x"}', *PROMETHEUS), "--job"),
        (("--canary", "10", "--tolerance", "accuracy=0.1", *PROMETHEUS), "--tolerance must be NAME=SHARE"),
        (("--canary", "10", "--tolerance", "labels=2", *PROMETHEUS), "--tolerance must be NAME=SHARE"),
    ],
)
def test_bad_options(arguments, reason) -> None:
    with pytest.raises(DeployError) as caught:
        parsed(*arguments)
    assert reason in str(caught.value)


def test_a_token_goes_nowhere_without_encryption(monkeypatch) -> None:
    monkeypatch.setenv("PROMETHEUS_TOKEN", "secret")
    with pytest.raises(DeployError, match="https://"):
        parsed("--canary", "10", "--prometheus", "http://prometheus.example.org")
