"""What a provider's stand-in runs, a fake service or a real container, and the proxy in front of it."""

import contextlib
import hashlib
import json
import socket
import subprocess
import threading
import urllib.request
import uuid
from collections.abc import Mapping
from typing import Any, Protocol

from scripts.common.process import free_port
from tests.helpers import container_engine
from tests.helpers.http_server import Handler, Server
from tests.helpers.waiting import HANG_S


class Instance(Protocol):
    port: int
    env: Mapping[str, str]

    def state(self) -> str:
        """Return `ready`, `starting`, or why it has ended."""

    def stop(self) -> None: ...


class Run(Protocol):
    def __call__(self, image: str, env: Mapping[str, str]) -> Instance: ...


class FakeApp:
    """Answers like the service, as far as deploying needs.

    If the image's name or a variable contains `stuck`, it never gets ready; with `crash` it ends; with
    `broken` it fails the smoke test (/smoke). Its model's SHA-256 is that of the model's URL.
    """

    def __init__(self, image: str, env: Mapping[str, str]) -> None:
        self.env = dict(env)
        self._text = " ".join([image, *env.values()])
        self.sha256 = hashlib.sha256(env.get("MODEL_URL", "").encode()).hexdigest()
        self._server = Server(type("_Bound", (_Handler,), {"app": self})).start()
        self.port = self._server.server_port

    def state(self) -> str:
        if "crash" in self._text:
            return "Exited with status 1"
        return "starting" if "stuck" in self._text else "ready"

    def answer(self, path: str) -> tuple[int, Any]:
        if path == "/model":
            return 200, {"version": self.sha256[:12], "sha256": self.sha256}
        if path == "/metrics":
            return 200, f'model_info{{sha256="{self.sha256}"}} 1\n'
        broken = path == "/smoke" and "broken" in self._text
        return (500 if broken else 200), {"status": "ready"}

    def stop(self) -> None:
        self._server.stop()


class _Handler(Handler):
    app: FakeApp

    def do_GET(self) -> None:
        status, body = self.app.answer(self.path)
        if isinstance(body, str):
            self.answer(status, body.encode(), {"Content-Type": "text/plain; version=0.0.4"})
        else:
            self.answer(status, json.dumps(body).encode())


class Container:
    """A real container of the image, run by docker or podman; as on Render, the platform sets PORT.

    It uses the network of this machine, so that MODEL_URL may name a server on loopback.
    """

    def __init__(self, image: str, env: Mapping[str, str]) -> None:
        self.env = dict(env)
        engine = container_engine.find()
        if engine is None:
            raise RuntimeError("no docker and no podman")
        self._engine = engine
        self._name = f"standin-{uuid.uuid4().hex[:12]}"
        self.port = free_port()
        env = self.env | {"HOST": "127.0.0.1", "PORT": str(self.port)}
        options = [f"--env={name}={value}" for name, value in env.items()]
        self._run("run", "--detach", "--name", self._name, "--network=host", *options, image)

    def state(self) -> str:
        running, code = self._run(
            "inspect", "--format", "{{.State.Running}} {{.State.ExitCode}}", self._name
        ).split()
        if running != "true":
            return f"Exited with status {code}"
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{self.port}/ready", timeout=HANG_S),
        ):
            return "ready"
        return "starting"

    def stop(self) -> None:
        self._run("stop", self._name)  # it answers the requests in flight
        self._run("rm", "--force", "--volumes", self._name)

    def _run(self, *arguments: str) -> str:
        done = subprocess.run([self._engine, *arguments], capture_output=True, text=True, timeout=HANG_S)
        if done.returncode:
            raise RuntimeError(done.stderr.strip())
        return done.stdout


class Front:
    """A port whose connections are forwarded to the instance that serves."""

    def __init__(self) -> None:
        self.instance: Instance | None = None
        self._asked: dict[socket.socket, Instance | None] = {}  # who owes this client an answer
        self._answered = threading.Condition()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def drain(self, instance: Instance) -> None:
        """Wait until the instance owes no answer; platforms, too, stop it only then."""
        with self._answered:
            self._answered.wait_for(lambda: instance not in self._asked.values(), HANG_S)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with self._answered:
            self._asked[client] = instance = self.instance
        with client, contextlib.suppress(OSError):
            if instance is None:
                client.recv(1 << 16)
                client.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            else:
                with socket.create_connection(("127.0.0.1", instance.port), timeout=HANG_S) as server:
                    back = threading.Thread(target=self._pass_back, args=(server, client), daemon=True)
                    back.start()
                    _pump(client, server)
                    back.join()
        self._is_answered(client)

    def _pass_back(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            client.sendall(server.recv(1 << 16))
        self._is_answered(client)
        _pump(server, client)

    def _is_answered(self, client: socket.socket) -> None:
        with self._answered:
            self._asked.pop(client, None)
            self._answered.notify_all()


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while piece := source.recv(1 << 16):
            sink.sendall(piece)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
