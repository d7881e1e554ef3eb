"""The service runs on a system that lacks what only POSIX systems have, as Windows does."""

import json
import sys

from app.settings import EMBEDDED
from tests.app.routes.test_predict import RED_JPEG
from tests.helpers.service import running

_WITHOUT_POSIX = """
import ctypes, os, select, signal, sys, time

for module in ("resource", "fcntl", "pwd", "grp", "termios"):
    sys.modules[module] = None  # `import` raises ImportError
missing = {
    os: ("fork", "getpriority", "setpriority", "PRIO_PROCESS", "nice", "sched_getaffinity", "sysconf"),
    select: ("poll", "epoll", "POLLIN", "POLLOUT", "POLLPRI", "POLLHUP", "POLLERR", "POLLNVAL"),
    signal: ("SIGHUP", "SIGUSR1", "SIGQUIT", "SIGKILL", "pthread_sigmask"),
    time: ("clock_gettime", "CLOCK_BOOTTIME", "CLOCK_MONOTONIC"),
}
for module, names in missing.items():
    for name in names:
        if hasattr(module, name):
            delattr(module, name)

class NoLibrary(ctypes.CDLL):
    def __init__(self, name, *arguments, **options):
        if name is None:
            raise TypeError("LoadLibrary() argument 1 must be str, not None")
        super().__init__(name, *arguments, **options)

ctypes.CDLL = NoLibrary
from app.__main__ import main
sys.exit(main())
"""


def test_a_photo_is_predicted_without_posix(make_model):
    command = (sys.executable, "-c", _WITHOUT_POSIX)
    with running(command=command, MODEL_URL=make_model().as_uri(), MAX_CONCURRENCY="2") as service:
        service.wait()
        status, body = service.predict(RED_JPEG)
        assert (status, body["label"]) == (200, "red")
        assert service.get("/health")[0] == 200
        code, output, error = service.end()
    assert (code, error) == (0, "")
    assert [line["label"] for line in map(json.loads, output.splitlines()) if "label" in line] == ["red"]


def test_a_model_is_downloaded_without_posix(server, cache):
    """Without fcntl there is no lock between processes that download, but the download works."""
    server.files["/model.pt"] = EMBEDDED.read_bytes()
    env = {"MODEL_URL": f"{server.url}/model.pt", "MODEL_CACHE_DIR": str(cache)}
    with running(command=(sys.executable, "-c", _WITHOUT_POSIX), **env) as service:
        service.wait()
        assert service.get("/model")[0] == 200
        assert service.end()[0] == 0
