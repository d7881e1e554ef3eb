"""Networks that answer nonsense or never end: refused at load, or a 500 that frees the worker."""

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from flask import Flask

from app.inference import loading
from app.telemetry import logs
from ml.model import host
from ml.model.errors import BundleError
from tests.app.routes.test_predict import is_problem, send
from tests.conftest import coloured, encode
from tests.helpers.bad_graphs import BRIGHT, DIM_BLUE, slow_to_load, wrong_for_bright
from tests.helpers.graphs import KNOWN, telling_graph
from tests.helpers.service import fails, running
from tests.helpers.waiting import HANG_S

BRIGHT_PNG, BLUE_PNG = (encode(coloured(colour), "PNG") for colour in (BRIGHT, DIM_BLUE))
MESSAGES = {"nan": "no probabilities", "negative": "no probabilities", "endless": "takes longer than 1 s"}


@pytest.mark.parametrize("kind", MESSAGES)
@pytest.mark.parametrize("limit", [-1.0, 100.0], ids=["always", "for a part of the photos"])
def test_a_network_that_fails_while_it_is_tried_is_refused(
    make_model: Callable[..., Path], kind: str, limit: float
) -> None:
    with pytest.raises(BundleError, match=MESSAGES[kind]) as caught:
        loading.load(make_model(graph=wrong_for_bright(kind, limit)), "onnx", 1, limit_s=1)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("constant", "message"), [("directions", "no components"), ("kernels", "no evidence")]
)
def test_a_network_whose_other_outputs_are_no_numbers_is_refused(
    make_model: Callable[..., Path], constant: str, message: str
) -> None:
    graph = onnx.load_from_string(telling_graph(components=2))
    (tensor,) = (one for one in graph.graph.initializer if one.name == constant)
    values = onnx.numpy_helper.to_array(tensor)
    tensor.CopyFrom(onnx.numpy_helper.from_array(np.full_like(values, np.nan), constant))
    reference = {f"component_{number}": {"0.0": 0.5} for number in (1, 2)}
    model = make_model(graph=graph.SerializeToString(), known=KNOWN, reference=reference)
    with pytest.raises(BundleError, match=message):
        loading.load(model, "onnx", 1)


@pytest.mark.parametrize("kind", MESSAGES)
def test_a_network_that_fails_later_costs_one_500(
    make_model: Callable[..., Path],
    make_app: Callable[..., Flask],
    caplog: pytest.LogCaptureFixture,
    kind: str,
) -> None:
    model = make_model("bad.pt", graph=wrong_for_bright(kind))
    client = make_app(model_url=model.as_uri(), request_timeout_s=1).test_client()
    caplog.set_level(logging.INFO, "app.request")
    for photos in ([BRIGHT_PNG], [BLUE_PNG, BRIGHT_PNG]):
        assert MESSAGES[kind] in is_problem(send(client, *photos), 500)["detail"]
    assert MESSAGES[kind] in json.loads(logs.JsonFormatter().format(caplog.records[0]))["error"]
    assert send(client, BLUE_PNG).get_json()["label"] == "blue"
    assert "predictions_in_flight 0.0" in client.get("/metrics").text


def test_an_endless_network_frees_its_worker(make_model: Callable[..., Path]) -> None:
    model = make_model(graph=wrong_for_bright("endless"))
    limits = {"MAX_CONCURRENCY": "1", "MAX_QUEUE": "1", "REQUEST_TIMEOUT_S": "1"}
    with running(MODEL_URL=model.as_uri(), **limits) as service:
        service.wait()
        assert service.predict(BRIGHT_PNG)[0] == 500
        assert service.predict(BLUE_PNG)[0] == 200
        code, _, error = service.end()
        assert (code, error) == (0, "")


def test_an_endless_network_ends_the_start(make_model: Callable[..., Path]) -> None:
    model = make_model(graph=wrong_for_bright("endless", limit=-1))
    error = fails(1, MODEL_URL=model.as_uri(), REQUEST_TIMEOUT_S="1")
    assert "its network doesn't run: a run of the network takes longer than 1 s" in error


def test_a_file_too_large_for_the_memory_is_refused_before_it_is_read(
    make_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    groups = tmp_path / "groups"
    groups.mkdir()
    (groups / "memory.max").write_text("300000000")
    (groups / "membership").write_text("0::/\n")
    monkeypatch.setattr(host, "CGROUPS", groups)
    monkeypatch.setattr(host, "MEMBERSHIP", groups / "membership")
    path = make_model()
    assert loading.load(path, "onnx", 1).name == "onnx"
    with path.open("r+b") as file:
        file.truncate(100_000_001)  # takes no space on the disk
    for kind in ("onnx", "torch"):
        with pytest.raises(BundleError, match=r"100,000,001 bytes, but .* suffices for at most 100,000,000"):
            loading.load(path, kind, 1)


def test_a_load_that_does_not_end_ends_the_start(make_model: Callable[..., Path]) -> None:
    model = make_model(graph=slow_to_load())
    impatient = """
import sys
from app.__main__ import main
from app.inference import model

model.LOAD_S = 2.0
sys.exit(main([]))
"""
    with running(command=(sys.executable, "-c", impatient), MODEL_URL=model.as_uri()) as service:
        _, error = service.process.communicate(timeout=HANG_S)
    assert service.process.returncode == 1
    assert error == f"error: {model.as_uri()} can't be used: it isn't loaded after 2 s\n"
