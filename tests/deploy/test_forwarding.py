"""A forwarded port outlives the pod that it leads to."""

import os
import sys
import urllib.request
from pathlib import Path

import pytest

from deploy.forwarding import Forwarding
from deploy.target import DeployError
from tests.helpers.waiting import until

# As kubectl: it forwards to one pod, and ends when that pod does, here after one request.
KUBECTL = f"""#!{sys.executable}
import os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
command, service, ports, address, *_ = sys.argv[1:]
assert (command, address) == ("port-forward", "--address=127.0.0.1"), sys.argv
if service == "service/none":
    sys.exit("error: unable to forward port because pod is not running")
class Pod(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(os.getpid()).encode())
server = HTTPServer(("127.0.0.1", int(ports.removesuffix(":80") or 0)), Pod)
print(f"Forwarding from 127.0.0.1:{{server.server_port}} -> 8080", flush=True)
server.handle_request()
"""


@pytest.fixture
def forwarding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Forwarding:
    kubectl = tmp_path / "kubectl"
    kubectl.write_text(KUBECTL)
    kubectl.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return Forwarding(["--context=somewhere"])


def pod_of(url: str) -> int | None:
    """The pod that answers, by the process that stands for it; None: none does."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return int(answer.read())
    except OSError:
        return None


def test_the_port_leads_to_another_pod_when_one_ends(forwarding: Forwarding) -> None:
    url = forwarding.to("service")
    pods: set[int] = set()

    def answered() -> bool:
        pods.update(filter(None, [pod_of(url)]))
        return len(pods) == 3

    until(answered)
    other = forwarding.to("service")
    assert other != url
    assert pod_of(other) not in pods
    forwarding._stop()
    assert pod_of(url) is pod_of(other) is None


def test_a_service_without_pods(forwarding: Forwarding) -> None:
    with pytest.raises(DeployError, match="pod is not running"):
        forwarding.to("none")
