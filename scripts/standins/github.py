"""A stand-in for GitHub's releases API, downloads and storage, over real HTTP on loopback.

`python -m scripts.standins.github --port N --folder DIR` serves the repository acme/cats-vs-dogs and keeps
its state in the folder. It behaves as https://docs.github.com/rest/releases documents, and its responses have
the fields that GitHub's OpenAPI document requires. Drafts are found only by id and in lists, and lose their
tag in a request without it; an interrupted upload leaves an asset in state `starter`; downloads redirect to
another port.
"""

import argparse
import contextlib
import http.server
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from scripts.standins.github_handler import Fault, Handler, Step
from scripts.standins.github_store import Store
from scripts.standins.storage import StorageHandler

REPOSITORY, TOKEN = "acme/cats-vs-dogs", "github_pat_standin"


class GitHub:
    """The server.

    Attributes:
        url: URL of the API (GITHUB_API_URL) and of the downloads.
        hook: called at each step of each request; returns the fault to inject, if any.
        seen: method, path and token of each request to the API.
        storage_seen: headers of each request to the storage.
        tokens: the right of each token, `write` or `read`.
    """

    def __init__(
        self,
        folder: Path,
        port: int = 0,
        repository: str = REPOSITORY,
        token: str = TOKEN,
        private: bool = False,
        immutable: bool = False,
        host: str = "127.0.0.1",
    ) -> None:
        self.repository, self.private = repository, private
        self.tokens = {token: "write", f"{token}_read": "read"}
        self.store = Store(folder, immutable)
        self.hook: Callable[[Step], Fault | None] = lambda _: None
        self.seen: list[tuple[str, str, str]] = []
        self.under_way = 0
        self.storage_seen: list[dict[str, str]] = []
        self.storage_breaks: list[int] = []
        self.page_size = 100  # maximum
        self.digests = True  # older servers state none
        storage = {"store": self.store, "seen": self.storage_seen, "break_after": self.storage_breaks}
        self._storage = _Server((host, 0), type("_Storage", (StorageHandler,), storage))
        self._api = _Server((host, port), type("_Api", (Handler,), {"github": self}))
        self.storage_port: int = self._storage.server_port
        self.url = f"http://{host.replace('0.0.0.0', '127.0.0.1')}:{self._api.server_port}"

    def download_url(self, name: str, tag: str | None = None) -> str:
        where = f"download/{tag}" if tag else "latest/download"
        return f"{self.url}/{self.repository}/releases/{where}/{name}"

    def environment(self, token: str | None = TOKEN) -> dict[str, str]:
        """Return the variables that Actions sets."""
        variables = {"GITHUB_API_URL": self.url, "GITHUB_REPOSITORY": self.repository}
        return variables | ({"GITHUB_TOKEN": token} if token else {})

    @contextlib.contextmanager
    def serving(self) -> Iterator["GitHub"]:
        threads = [
            threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
            for server in (self._api, self._storage)
        ]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            for server in (self._api, self._storage):
                server.shutdown()
                server.server_close()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: Any) -> None:
        """Print nothing: tests kill clients on purpose."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--repository", default=REPOSITORY)
    parser.add_argument("--token", default=TOKEN)
    parser.add_argument("--private", action="store_true", help="nothing is visible without a token")
    parser.add_argument("--immutable", action="store_true", help="published releases cannot be changed")
    options = parser.parse_args()
    github = GitHub(**vars(options))
    with github.serving():
        print(github.url, flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()


if __name__ == "__main__":
    main()
