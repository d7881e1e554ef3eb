"""The image's HEALTHCHECK."""

import socket
import subprocess
import sys
import threading

import pytest

from tests.helpers.model_server import Answer
from tests.helpers.paths import ROOT
from tests.helpers.service import running
from tests.helpers.waiting import HANG_S, until

COMMAND = (sys.executable, "-I", "-S", "app/healthcheck.py")


def check(**env: str) -> tuple[int, str]:
    done = subprocess.run(COMMAND, cwd=ROOT, env=env, capture_output=True, text=True, timeout=HANG_S)
    assert not done.stdout
    return done.returncode, done.stderr


@pytest.mark.parametrize("host", ["", "127.0.0.1", "localhost", "::", "::1"])
def test_healthy_where_it_listens(make_model, host):
    with running(MODEL_URL=make_model().as_uri(), HOST=host) as service:
        # localhost is 127.0.0.1 on some systems, and ::1 on others.
        asked = socket.getaddrinfo(host or "127.0.0.1", service.port, type=socket.SOCK_STREAM)[0]

        def listens() -> bool:
            with socket.socket(asked[0]) as probe:
                return probe.connect_ex(asked[4]) == 0

        until(listens)
        assert check(HOST=host, PORT=f" {service.port} ") == (0, "")
        with socket.socket(asked[0]) as closed:  # nobody listens there
            closed.bind((asked[4][0], 0))
            assert check(HOST=host, PORT=str(closed.getsockname()[1]))[0] == 1


def test_healthy_while_the_model_is_downloaded_unhealthy_afterwards(server):
    server.answers["/model.pt"] = [Answer(stall=100)]
    with running(MODEL_URL=f"{server.url}/model.pt") as service:
        service.wait("/health")
        assert service.get("/ready")[0] == 503
        assert check(PORT=str(service.port)) == (0, "")
    code, error = check(PORT=str(service.port))
    assert (code, error) == (1, "error: [Errno 111] Connection refused\n")


@pytest.mark.parametrize("answer", [b"HTTP/1.0 503 Service Unavailable\r\n\r\n", b"200", b"", None])
def test_unhealthy_responses(answer):
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                if answer is None:  # it hangs
                    over.wait(HANG_S)
                else:
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        code, error = check(PORT=str(listener.getsockname()[1]))
        over.set()
        thread.join()
    assert code == 1
    assert error.startswith("error: ")
    assert error.count("\n") == 1


def test_healthy_if_the_system_has_no_ipv6(server):
    server.files["/health"] = b"ok"
    assert check(HOST="::", PORT=str(server.port)) == (0, "")


def test_unhealthy_without_a_port():
    assert check(PORT="http") == (1, "error: invalid literal for int() with base 10: 'http'\n")
    assert check(PORT="0")[0] == 1
    assert check(HOST="no.such.host.invalid")[0] == 1
