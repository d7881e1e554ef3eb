"""One request to the stand-in for GitHub: permissions, injected faults, and the response."""

import http.server
import json
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from scripts.standins.github_answers import asset_answer, error_answer, release_answer, repository_answer
from scripts.standins.github_store import Asset, RefusedError
from scripts.standins.storage import SIGNATURE

if TYPE_CHECKING:
    from scripts.standins.github import GitHub

_PIECE = 1 << 16
_VERSIONS = {None, "2022-11-28"}


@dataclass(frozen=True)
class Step:
    """A moment of a request: `before` or `after` it is carried out, or `middle` of an upload's body."""

    number: int
    method: str
    path: str
    phase: str


@dataclass(frozen=True)
class Fault:
    """A fault: a response with this status; or, with status 0, a connection that is closed after a stall."""

    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    message: str = "Server Error"
    stall_s: float = 0.0
    body: Any = None  # of the response, instead of an error's


class _DroppedError(Exception):
    """The connection is closed without a response."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two packets
    github: "GitHub"

    def do_GET(self) -> None:
        self.close_connection = False
        self.body_read = False
        self.github.under_way += 1
        try:
            self._answer(*self._handle())
        except _DroppedError:
            self.close_connection = True
        finally:
            self.github.under_way -= 1

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_POST(self) -> None:
        self.do_GET()

    def do_PATCH(self) -> None:
        self.do_GET()

    def do_DELETE(self) -> None:
        self.do_GET()

    def _handle(self) -> tuple[int, Any, dict[str, str]]:
        github, parts = self.github, urlsplit(self.path)
        token = re.sub(r"^(Bearer|token) ", "", self.headers.get("Authorization", ""))
        github.seen.append((self.command, self.path, token))
        self.number, self.query = len(github.seen), parse_qs(parts.query)
        try:
            self._step("before")
            answer = self._carry_out(token, parts.path)
            self._step("after")
            return answer
        except _Fault as fault:
            body = {"message": fault.fault.message, "documentation_url": "https://docs.github.com/rest"}
            body = body if fault.fault.body is None else fault.fault.body
            return fault.fault.status, body, dict(fault.fault.headers)

    def _carry_out(self, token: str, path: str) -> tuple[int, Any, dict[str, str]]:
        github, owner = self.github, re.escape(self.github.repository)
        try:
            if found := re.fullmatch(
                rf"/{owner}/releases/(latest/)?download/(?:([^/]+)/)?([^/]+)", path, re.I
            ):
                return self._browser(found[1] is not None, found[2], unquote(found[3]))
            self._check_client(token)
            whole = self.command == "GET" and re.fullmatch(rf"/repos/{owner}", path, re.I)
            found = whole or re.fullmatch(rf"(/uploads)?/repos/{owner}/releases(/.*)?", path, re.I)
            if not found or (github.private and token not in github.tokens):
                raise RefusedError(404, "Not Found")
            self.right = github.tokens.get(token, "")
            if whole:
                return 200, repository_answer(self), {}
            return self._api(found[2] or "", found[1] is not None)
        except RefusedError as refused:
            return refused.status, error_answer(refused), {}

    def _step(self, phase: str) -> None:
        fault = self.github.hook(Step(self.number, self.command, self.path, phase))
        if fault is not None:
            time.sleep(fault.stall_s)
            raise _Fault(fault) if fault.status else _DroppedError

    def _check_client(self, token: str) -> None:
        if not self.headers.get("User-Agent"):
            raise RefusedError(403, "Request forbidden by administrative rules: no User-Agent header")
        if self.headers.get("X-GitHub-Api-Version") not in _VERSIONS:
            raise RefusedError(400, "Unsupported API version")
        if token and token not in self.github.tokens:
            raise RefusedError(401, "Bad credentials")

    def _api(self, path: str, uploads: bool) -> tuple[int, Any, dict[str, str]]:
        method = "GET" if self.command == "HEAD" else self.command
        store, write = self.github.store, self.right == "write"
        if method != "GET" and not write:
            message = "Resource not accessible by integration" if self.right else "Requires authentication"
            raise RefusedError(403 if self.right else 401, message)
        body = self._json() if method in ("POST", "PATCH") and not uploads else {}
        number = int(found[0]) if (found := re.findall(r"/([0-9]+)", path)) else 0
        if uploads:
            if method != "POST" or not re.fullmatch(r"/[0-9]+/assets", path):
                raise RefusedError(404, "Not Found")
            return 201, self._asset(self._upload(number)), {}
        with store.lock:
            match method, re.sub(r"/[0-9]+", "/ID", path):
                case "GET", "":
                    return self._page([release_answer(self, one) for one in store.all(write)])
                case "POST", "":
                    made = store.create(body)
                    return 201, release_answer(self, made), {}
                case "GET", "/latest":
                    return 200, release_answer(self, store.latest()), {}
                case "GET", "/ID":
                    return 200, release_answer(self, store.release(number, write)), {}
                case "PATCH", "/ID":
                    return 200, release_answer(self, store.change(store.release(number), body)), {}
                case "DELETE", "/ID":
                    store.delete(store.release(number))
                    return 204, None, {}
                case "GET", "/ID/assets":
                    return self._page([self._asset(one) for one in store.of(store.release(number, write))])
                case "GET", "/assets/ID":
                    return self._get_asset(store.asset(number, write))
                case "DELETE", "/assets/ID":
                    store.delete_asset(store.asset(number))
                    return 204, None, {}
                case "GET", _ if path.startswith("/tags/"):
                    return 200, release_answer(self, store.by_tag(unquote(path.removeprefix("/tags/")))), {}
        raise RefusedError(404, "Not Found")

    def _asset(self, asset: Asset) -> dict[str, Any]:
        return asset_answer(self, self.github.store.releases[asset.release], asset)

    def _get_asset(self, asset: Asset) -> tuple[int, Any, dict[str, str]]:
        if self.headers.get("Accept") != "application/octet-stream":
            return 200, self._asset(asset), {}
        if asset.state != "uploaded":
            raise RefusedError(404, "Not Found")
        return 302, None, {"Location": self._stored(asset)}

    def _browser(self, latest: bool, tag: str | None, name: str) -> tuple[int, Any, dict[str, str]]:
        """Redirect browsers as github.com does: from `latest` to the tag, and from there to the storage."""
        if self.github.private:
            raise RefusedError(404, "Not Found")
        with self.github.store.lock:
            asset = self.github.store.find(None if latest else unquote(tag or ""), name)
            if latest:
                release = self.github.store.releases[asset.release]
                where = f"{self.origin}/{self.github.repository}/releases/download/{release.tag}/{name}"
                return 302, None, {"Location": where}
        return 302, None, {"Location": self._stored(asset)}

    def _stored(self, asset: Asset) -> str:
        host = urlsplit(self.origin).hostname
        return f"http://{host}:{self.github.storage_port}/assets/{asset.id}?sig={SIGNATURE}"

    @property
    def origin(self) -> str:
        """The URL by which the client reaches this server; from inside a container it is another one."""
        host = self.headers.get("Host", "")
        return f"http://{host}" if re.fullmatch(r"[A-Za-z0-9.:\[\]-]+", host) else self.github.url

    def _page(self, entries: list[Any]) -> tuple[int, Any, dict[str, str]]:
        size = min(int(self.query.get("per_page", ["30"])[0]), self.github.page_size)
        page = int(self.query.get("page", ["1"])[0])
        url = f"{self.origin}{urlsplit(self.path).path}?per_page={size}&page="
        last = max(1, -(-len(entries) // size))
        links = [f'<{url}{page + 1}>; rel="next"', f'<{url}{last}>; rel="last"'] if page < last else []
        links += [f'<{url}{page - 1}>; rel="prev"', f'<{url}1>; rel="first"'] if page > 1 else []
        part = entries[(page - 1) * size : page * size]
        return 200, part, {"Link": ", ".join(links)} if links else {}

    def _json(self) -> dict[str, Any]:
        data = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.body_read = True
        try:
            found = json.loads(data or b"{}")
        except ValueError:
            raise RefusedError(400, "Problems parsing JSON") from None
        if not isinstance(found, dict):
            raise RefusedError(400, "Body should be a JSON object")
        return found

    def _upload(self, number: int) -> Asset:
        """Read the body into a file; the asset's state is `starter` until the body is complete."""
        store, size = self.github.store, int(self.headers.get("Content-Length", "0"))
        kind = self.headers.get("Content-Type")
        if not kind:
            raise RefusedError(400, "Content-Type is missing")
        with store.lock:
            label = self.query.get("label", [None])[0]
            asset = store.begin(store.release(number), self.query.get("name", [""])[0], label, kind, size)
        have = 0
        with store.blob(asset).open("wb") as file:
            while have < size:
                end = size // 2 if have < size // 2 else size
                piece = self.rfile.read1(min(_PIECE, end - have))
                if not piece:
                    raise _DroppedError
                file.write(piece)
                have += len(piece)
                if have == size // 2:
                    self._step("middle")
        self.body_read = True
        with store.lock:
            return store.finish(asset)

    def _answer(self, status: int, body: Any, headers: dict[str, str]) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        usual = {
            "Content-Length": str(len(data)),
            "X-GitHub-Media-Type": "github.v3; format=json",
            "X-GitHub-Request-Id": f"{self.number:04X}:STAND:IN",
            "X-RateLimit-Limit": "5000",
            "X-RateLimit-Remaining": "4999",
            "X-RateLimit-Reset": str(int(time.time()) + 3600),
        }
        usual |= {"Content-Type": "application/json; charset=utf-8"} if body is not None else {}
        if self.headers.get("Content-Length", "0") != "0" and not self.body_read:
            usual["Connection"] = "close"  # the rest of the body would be read as the next request
            self.close_connection = True
        self.send_response(status)
        for name, value in (usual | headers).items():
            if status != 204 or name != "Content-Length":
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


class _Fault(Exception):  # noqa: N818
    def __init__(self, fault: Fault) -> None:
        super().__init__()
        self.fault = fault
