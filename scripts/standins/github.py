"""A stand-in for GitHub's API, downloads and storage, over real HTTP on loopback.

It serves the repository acme/cats-vs-dogs and keeps its state in memory. Releases, issues and dispatches
behave as https://docs.github.com/rest documents, as far as this project's clients use them. Drafts are found
only by id and in lists, and lose their tag in a request without it. An interrupted upload leaves an asset in
state `starter`. Downloads redirect to another port.
"""

import contextlib
import http.server
import threading
from collections.abc import Callable, Iterator
from typing import Any

from scripts.standins.github_handler import REPOSITORY, Fault, Handler, Step
from scripts.standins.github_store import Store
from scripts.standins.storage import StorageHandler

TOKEN = "github_pat_standin"


class GitHub:
    """The server.

    Attributes:
        url: URL of the API (GITHUB_API_URL) and of the downloads.
        private: whether nothing is visible without a token.
        hook: called at each step of each request; returns the fault to inject, if any.
        seen: method, path and token of each request to the API.
        storage_seen: headers of each request to the storage.
        storage_breaks: the next downloads end after this many bytes.
        dispatched: type and payload of each repository_dispatch event.
        under_way: number of requests that are being answered.
        page_size: of lists, at most.
        tokens: the right of each token, `write` or `read`.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.private = False
        self.tokens = {TOKEN: "write", f"{TOKEN}_read": "read"}
        self.store = Store()
        self.hook: Callable[[Step], Fault | None] = lambda _: None
        self.seen: list[tuple[str, str, str]] = []
        self.dispatched: list[tuple[str, dict[str, Any]]] = []
        self.under_way = 0
        self.storage_seen: list[dict[str, str]] = []
        self.storage_breaks: list[int] = []
        self.page_size = 100
        storage = {"store": self.store, "seen": self.storage_seen, "break_after": self.storage_breaks}
        self._storage = _Server((host, 0), type("_Storage", (StorageHandler,), storage))
        self._api = _Server((host, 0), type("_Api", (Handler,), {"github": self}))
        self.storage_port: int = self._storage.server_port
        self.url = f"http://127.0.0.1:{self._api.server_port}"

    def download_url(self, name: str, tag: str | None = None) -> str:
        where = f"download/{tag}" if tag else "latest/download"
        return f"{self.url}/{REPOSITORY}/releases/{where}/{name}"

    def environment(self, token: str | None = TOKEN) -> dict[str, str]:
        """Return the variables that Actions sets."""
        variables = {"GITHUB_API_URL": self.url, "GITHUB_REPOSITORY": REPOSITORY}
        return variables | ({"GITHUB_TOKEN": token} if token else {})

    @contextlib.contextmanager
    def serving(self) -> Iterator["GitHub"]:
        servers = (self._api, self._storage)
        for server in servers:
            options = {"poll_interval": 0.01}
            threading.Thread(target=server.serve_forever, kwargs=options, daemon=True).start()
        try:
            yield self
        finally:
            for server in servers:
                server.shutdown()
                server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: Any) -> None:
        """Print nothing: tests kill clients on purpose."""
