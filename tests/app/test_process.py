"""`python -m app` as a real process: start, bad models, signals, and invalid HTTP."""

import http.client
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from app.inference.model import Model
from app.model_source.source import ModelSourceError
from app.settings import EMBEDDED, Settings
from app.telemetry.metrics import Metrics
from tests.app.routes.test_predict import RED_JPEG
from tests.helpers.paths import ROOT
from tests.helpers.service import fails, running
from tests.helpers.waiting import HANG_S, until


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_serves_and_stops(make_model, number):
    with running(MODEL_URL=make_model().as_uri()) as service:
        service.wait()
        status, body = service.predict(RED_JPEG)
        assert (status, body["label"]) == (200, "red")
        code, output, error = service.end(number)
    assert (code, error) == (0, "")
    lines = [json.loads(line) for line in output.splitlines()]
    (ready,) = [line["message"] for line in lines if line["message"].startswith("ready in ")]
    assert f"http://127.0.0.1:{service.port}  try: curl -F file=@photo.jpg" in ready
    assert [line["label"] for line in lines if line.get("route") == "/predict"] == ["red"]


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, NumPy may have another library for matrices")
def test_numpy_starts_no_threads():
    code = "import app.__main__, threadpoolctl as t; print([p['num_threads'] for p in t.threadpool_info()])"
    environ = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    counts = json.loads(subprocess.check_output([sys.executable, "-c", code], env=environ, cwd=ROOT))
    assert set(counts) == {1}


@pytest.mark.skipif(sys.platform != "linux", reason="prlimit is a program of Linux")
def test_without_room_for_a_large_body_there_is_an_answer_and_a_count(make_model):
    """Waitress keeps bodies above 1 MB in files; a limit of a file's size is like a full disk."""
    command = ["prlimit", "--fsize=1048576", sys.executable, "-m", "app"]
    with running(command=command, MODEL_URL=make_model().as_uri(), LOG_FORMAT="text") as service:
        service.wait()
        status, body = service.predict(RED_JPEG + bytes(3 << 20))
        assert (status, body["detail"]) == (503, "the service has no room for the request's body; try again")
        assert service.predict(RED_JPEG)[0] == 200
        assert 'predictions_rejected_total{reason="no_resources"} 1.0' in service.metrics()
        assert "can't be written to the temporary folder: File too large" in service.end()[1]


def test_a_connection_that_stays_open_does_not_keep_it_from_ending(make_model):
    with running(MODEL_URL=make_model().as_uri(), LOG_FORMAT="text") as service:
        service.wait()
        with socket.create_connection(("127.0.0.1", service.port)) as connection:
            head = "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg"
            connection.sendall(f"{head}\r\nContent-Length: {len(RED_JPEG)}\r\n\r\n".encode() + RED_JPEG)
            assert connection.recv(15) == b"HTTP/1.1 200 OK"
            assert service.end()[0] == 0


# Waits for neither clients nor workers at the end.
_IMPATIENT = """
import sys
from app.__main__ import main
from app.http import admission, server
admission._STOP_S = server._LATE_CLIENTS_S = 0.0
sys.exit(main([]))
"""


def test_a_prediction_that_is_cut_off_does_not_crash_it():
    boundary = b"--b\r\nContent-Disposition: form-data; name=file; filename=a.jpg\r\n\r\n%s\r\n"
    body = boundary % Path(ROOT, "tests/photos/cat.jpg").read_bytes() * 100 + b"--b--\r\n"
    head = "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    command = (sys.executable, "-c", _IMPATIENT)
    with running(command=command, DRAIN_SECONDS="0", LOG_FORMAT="text") as service:
        service.wait()
        with socket.create_connection(("127.0.0.1", service.port)) as connection:
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
            until(lambda: "inference_duration_seconds_count 0.0" not in service.metrics())
            code, output, _ = service.end()
    assert "requests cut off" in output
    assert code == 0


def test_idle_memory(make_model):
    with running(MODEL_URL=make_model().as_uri()) as service:
        seconds = service.wait()
        memory = next(
            int(line.split()[1]) / 1024
            for line in Path(f"/proc/{service.process.pid}/smaps_rollup").read_text().splitlines()
            if line.startswith("Pss:")
        )
    print(f"start to ready: {seconds:.2f} s, idle memory: {memory:.0f} MB")
    assert memory < 200  # 77 MB are usual; torch would take more than this


def test_writes_nothing_to_the_home_folder(make_model, tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    with running(MODEL_URL=make_model().as_uri(), HOME=str(home)) as service:
        service.wait()
        assert service.predict(RED_JPEG)[0] == 200
    assert not list(home.iterdir())  # ONNX Runtime's telemetry keeps a database there


def test_the_default_model_needs_no_setting():
    with running() as service:
        service.wait()
        assert service.get("/model")[0] == 200
    assert EMBEDDED.stat().st_size < 30 << 20


def test_the_service_imports_nothing_of_training_and_no_downloader(make_model):
    code = (
        "import sys; from app import create_app, __main__; from app.service import service_of; "
        "from app.settings import Settings; "
        "service_of(create_app(Settings(model_url=sys.argv[1]))).model.load(); print(*sys.modules)"
    )
    command = [sys.executable, "-c", code, make_model().as_uri()]
    shown = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in shown.stdout.split()}
    assert "onnxruntime" in loaded
    unwanted = "torch torchvision mlflow dvc matplotlib sklearn onnx pydantic requests urllib3 dotenv"
    assert not loaded & set(unwanted.split())


def test_importing_the_package_has_no_side_effect():
    code = (
        "import logging, sys, threading, app; "
        "print(threading.active_count(), logging.getLogger().handlers, 'prometheus_client' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout.split() == ["1", "[]", "False"]


class Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def rejection(model: Path) -> str:
    """The one line with which a model is rejected at load."""
    with pytest.raises(ModelSourceError) as caught:
        Model(Settings(model_url=model.as_uri()), Metrics()).load()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_bad_models_are_rejected_with_one_line(make_model, tmp_path):
    good = make_model("good.pt").read_bytes()
    (tmp_path / "short.pt").write_bytes(good[: len(good) // 2])
    (tmp_path / "text.pt").write_text("no model")
    (tmp_path / "empty.pt").touch()
    assert "cut short" in fails(1, MODEL_URL=(tmp_path / "short.pt").as_uri())  # and stops the start
    assert "can't read the model file" in fails(1, MODEL_URL="file:///%00")
    assert "not a ZIP" in rejection(tmp_path / "text.pt")
    assert "not a ZIP" in rejection(tmp_path / "empty.pt")
    assert "No such file" in rejection(tmp_path / "none.pt")
    assert "Is a directory" in rejection(tmp_path)
    assert "resnet" in rejection(make_model("arch.pt", arch="resnet"))


@pytest.mark.parametrize("protocol", [0, 2, 4, None], ids=["0", "2", "4", "bare"])
def test_a_pickle_that_would_run_code_is_rejected_and_not_run(make_model, tmp_path, protocol):
    trace = tmp_path / "trace"
    model = make_model(data_pkl=pickle.dumps(Hostile(trace), protocol))
    if protocol is None:
        model.write_bytes(pickle.dumps(Hostile(trace)))
    assert ("not a ZIP" if protocol is None else "could run code") in rejection(model)
    assert not trace.exists()


def test_a_bad_setting_a_wrong_pin_and_a_taken_port(make_model):
    assert "PORT" in fails(2, PORT="many")
    assert "MODEL_SHA256" in fails(1, MODEL_URL=make_model().as_uri(), MODEL_SHA256="0" * 64)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"127.0.0.1:{port}: Address already in use" in fails(1, PORT=port)
    assert "can't listen on no.such.host.invalid" in fails(1, HOST="no.such.host.invalid")
    assert "can't listen on a..b:" in fails(1, HOST="a..b")


def test_a_misspelt_setting_causes_a_warning_without_its_value(make_model):
    with running(MODEL_URL=make_model().as_uri(), API_KEY="topsecret", UNKWON="off", OTHER="x") as service:
        service.wait()
        _, output, error = service.end()
    warnings = [
        line["message"] for line in map(json.loads, output.splitlines()) if line["level"] == "warning"
    ]
    assert sorted(warnings) == [
        "API_KEY is not a setting of this service; did you mean API_KEYS?",
        "UNKWON is not a setting of this service; did you mean UNKNOWN?",
    ]
    assert "topsecret" not in output + error


def test_a_dotenv_file_is_read_and_the_environment_wins(make_model, tmp_path):
    (tmp_path / ".env").write_text(f"MODEL_URL={make_model().as_uri()}\nPORT=many\nLOG_FORMAT=text\n")
    with running(cwd=tmp_path, LOG_FORMAT="") as service:  # empty counts as unset
        service.wait()
        output = service.end()[1]
    assert " info ready in " in output


def test_a_dotenv_file_that_is_not_utf8_stops_the_start_with_one_line(tmp_path):
    (tmp_path / ".env").write_bytes(b"PORT=\xff\n")
    with running(cwd=tmp_path) as service:
        assert service.process.communicate(timeout=HANG_S)[1] == "error: can't read .env: it is not UTF-8\n"
        assert service.process.returncode == 2


@pytest.fixture(scope="module")
def default_service():
    with running(LOG_LEVEL="error") as service:
        service.wait()
        yield service
        assert service.end() == (0, "", "")  # a stranger's nonsense fills no log


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"GARBAGE", 400),
        (b"get /health HTTP/1.1", 400),
        (b"GET /health HTTP/1.1\r\nno colon", 400),
        (b"GET http://[::1/health HTTP/1.1", 400),
        (b"POST /predict HTTP/1.1\r\nContent-Length: -1", 400),
        (b"POST /predict HTTP/1.1\r\nContent-Length: " + b"9" * 5000, 400),
        (b"POST /predict HTTP/1.1\r\nTransfer-Encoding: gzip", 501),
        (b"POST /predict HTTP/1.1\r\nContent-Length: 1000000000000", 413),
        (b"GET /health HTTP/1.1\r\nX-Long: " + b"x" * 300_000, 431),
    ],
    ids=[
        *("first line", "method", "header", "target", "negative length", "long length", "coding"),
        *("large length", "long header"),
    ],
)
def test_invalid_http_is_answered_and_logs_no_error(default_service, head, status):
    connection = http.client.HTTPConnection("127.0.0.1", default_service.port, timeout=HANG_S)
    connection.connect()
    connection.sock.sendall(head + b"\r\n\r\n")
    response = http.client.HTTPResponse(connection.sock)
    response.begin()
    is_problem(response, status)
    connection.close()


def is_problem(response: http.client.HTTPResponse, status: int) -> None:
    body = json.load(response)
    assert (response.status, body["status"]) == (status, status)
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.headers["X-Request-ID"] == body["request_id"]
    assert response.headers["Server"] is None
