"""One request to the stand-in for GitHub: permissions, injected faults, and the response."""

import http.server
import json
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from scripts.standins.github_store import Asset, RefusedError, Release, missing
from scripts.standins.storage import SIGNATURE

if TYPE_CHECKING:
    from scripts.standins.github import GitHub

REPOSITORY = "acme/cats-vs-dogs"
_Answer = tuple[int, Any, dict[str, str]]
"""Status, body (None: empty) and headers of a response."""


@dataclass(frozen=True)
class Step:
    """A moment of a request: `before` or `after` it is carried out, or `middle` of an upload's body."""

    number: int
    method: str
    path: str
    phase: str


@dataclass(eq=False)
class Fault(Exception):  # noqa: N818
    """A fault: a response with this status; or, with status 0, a connection that is closed after a stall."""

    status: int = 0
    headers: tuple[tuple[str, str], ...] = ()
    message: str = "Server Error"
    stall_s: float = 0.0
    body: Any = None  # of the response, instead of an error's


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two packets
    github: "GitHub"

    def _respond(self) -> None:
        self.github.under_way += 1
        try:
            self._send(*self._handle())
        except Fault as fault:
            if fault.status:
                body = {"message": fault.message} if fault.body is None else fault.body
                self._send(fault.status, body, dict(fault.headers))
            else:
                self.close_connection = True
        finally:
            self.github.under_way -= 1

    do_GET = do_POST = do_PATCH = do_DELETE = _respond  # noqa: N815

    def _handle(self) -> _Answer:
        parts = urlsplit(self.path)
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.github.seen.append((self.command, self.path, token))
        self.number, self.query = len(self.github.seen), dict(parse_qs(parts.query))
        self._step("before")
        try:
            answer = self._carry_out(unquote(parts.path), token)
        except RefusedError as refused:
            answer = refused.status, {"message": refused.message, "errors": refused.errors}, {}
        self._step("after")
        return answer

    def _step(self, phase: str) -> None:
        if fault := self.github.hook(Step(self.number, self.command, self.path, phase)):
            time.sleep(fault.stall_s)
            raise fault

    def _carry_out(self, path: str, token: str) -> _Answer:
        github = self.github
        if download := re.fullmatch(rf"/{REPOSITORY}/releases/(.+)/([^/]+)", path):
            return self._download(download[1], download[2])
        if not self.headers.get("User-Agent"):
            raise RefusedError(403, "Request forbidden by administrative rules: no User-Agent header")
        if token and token not in github.tokens:
            raise RefusedError(401, "Bad credentials")
        right = github.tokens.get(token)
        uploads, found, rest = path.partition(f"/repos/{REPOSITORY}")
        if not found or (github.private and right is None):
            raise missing()
        if self.command != "GET" and right != "write":
            status, message = (403, "Resource not accessible") if right else (401, "Requires authentication")
            raise RefusedError(status, message)
        if uploads:
            return 201, self._asset(self._upload(int(rest.split("/")[2]))), {}
        with github.store.lock:
            return self._api(rest.split("/")[1:], drafts=right == "write")

    def _api(self, path: list[str], drafts: bool) -> _Answer:
        store = self.github.store
        match self.command, *path:
            case ["GET"]:
                return 200, {"private": self.github.private}, {}
            case "GET", "releases":
                return self._page([self._release(release) for release in store.all(drafts)])
            case "POST", "releases":
                return 201, self._release(store.create(self._json())), {}
            case "GET", "releases", "latest":
                return 200, self._release(store.latest()), {}
            case "GET", "releases", "tags", tag:
                return 200, self._release(store.by_tag(tag)), {}
            case "GET", "releases", "assets", number:
                asset = store.asset(int(number), drafts)
                if self.headers.get("Accept") == "application/octet-stream":
                    return self._stored(asset)
                return 200, self._asset(asset), {}
            case "DELETE", "releases", "assets", number:
                del store.assets[store.asset(int(number)).id]
                return 204, None, {}
            case "GET", "releases", number:
                return 200, self._release(store.release(int(number), drafts)), {}
            case "PATCH", "releases", number:
                return 200, self._release(store.change(store.release(int(number)), self._json())), {}
            case "DELETE", "releases", number:
                store.delete(store.release(int(number)))
                return 204, None, {}
            case "GET", "releases", number, "assets":
                return self._page([self._asset(one) for one in store.of(store.release(int(number), drafts))])
            case "GET", "commits", "tags", tag:
                if tag not in store.tags:
                    raise RefusedError(422, f"No commit found for SHA: tags/{tag}")
                return 200, {"sha": store.tags[tag], "url": f"{self._origin}{self.path}"}, {}
            case "POST", "dispatches":
                return self._dispatch(self._json())
            case _, "issues", *rest:
                return self._issues(rest)
        raise missing()

    def _dispatch(self, event: dict[str, Any]) -> _Answer:
        """https://docs.github.com/rest/repos/repos#create-a-repository-dispatch-event"""
        kind, payload = event.get("event_type"), event.get("client_payload", {})
        if not isinstance(kind, str) or not 1 <= len(kind) <= 100 or len(payload) > 10:
            raise RefusedError(422, "Invalid request.")
        self.github.dispatched.append((kind, payload))
        return 204, None, {}

    def _issues(self, path: list[str]) -> _Answer:
        """https://docs.github.com/rest/issues: a list has open issues and pull requests, newest first."""
        store = self.github.store
        if not store.has_issues:
            raise RefusedError(410, "Issues are disabled for this repo")
        match self.command, *path:
            case ["GET"]:
                state, labels = self.query.get("state", ["open"])[0], self.query.get("labels", [""])[0]
                found = [
                    issue
                    for issue in reversed(store.issues)
                    if state in ("all", issue["state"])
                    and {*filter(None, labels.split(","))} <= {label["name"] for label in issue["labels"]}
                ]
                found = found[::-1] if self.query.get("direction") == ["asc"] else found
                return self._page([self._issue(issue) for issue in found])
            case ["POST"]:
                return 201, self._issue(store.open_issue(self._json())), {}
            case "GET", number:
                return 200, self._issue(store.issue(int(number))), {}
            case "PATCH", number:
                issue = store.issue(int(number))
                issue.update(self._json())
                return 200, self._issue(issue), {}
            case "POST", number, "comments":
                store.issue(int(number))["comments"].append(self._json()["body"])
                return 201, {"id": 1}, {}
        raise missing()

    def _issue(self, issue: dict[str, Any]) -> dict[str, Any]:
        url = f"{self._origin}/repos/{REPOSITORY}/issues/{issue['number']}"
        return issue | {"url": url, "comments": len(issue["comments"])}

    def _download(self, where: str, name: str) -> _Answer:
        """Redirect browsers as github.com does: from `latest` to the tag, and from there to the storage."""
        store = self.github.store
        if self.github.private:
            raise missing()
        with store.lock:
            if where == "latest/download":
                url = f"{self._origin}/{REPOSITORY}/releases/download/{store.latest().tag}/{name}"
                return 302, None, {"Location": url}
            return self._stored(store.find(store.by_tag(where.removeprefix("download/")), name))

    def _stored(self, asset: Asset) -> _Answer:
        host = urlsplit(self._origin).hostname
        url = f"http://{host}:{self.github.storage_port}/assets/{asset.id}?{SIGNATURE}"
        return 302, None, {"Location": url}

    def _upload(self, number: int) -> Asset:
        """Read the body; the asset's state is `starter` until the body is complete."""
        store, size = self.github.store, int(self.headers["Content-Length"])
        if not self.headers.get("Content-Type"):
            raise RefusedError(400, "Content-Type is missing")
        with store.lock:
            asset = store.begin(store.release(number), self.query["name"][0])
        data = self.rfile.read(size // 2)
        self._step("middle")
        data += self.rfile.read(size - len(data))
        if len(data) < size:  # the client is gone
            raise Fault
        with store.lock:
            return store.finish(asset, data)

    @property
    def _origin(self) -> str:
        """The URL by which the client reaches this server; from inside a container it is another one."""
        return f"http://{self.headers['Host']}"

    def _release(self, release: Release) -> dict[str, Any]:
        """Return the fields that the clients use."""
        own, pages = f"/repos/{REPOSITORY}/releases/{release.id}", f"{self._origin}/{REPOSITORY}/releases"
        return {
            "url": f"{self._origin}{own}",
            "upload_url": f"{self._origin}/uploads{own}/assets{{?name,label}}",
            "html_url": f"{pages}/tag/{release.shown_tag}",
            "id": release.id,
            "tag_name": release.tag,
            "target_commitish": release.target,
            "name": release.name,
            "draft": release.draft,
            "prerelease": release.prerelease,
            "body": release.body,
        }

    def _asset(self, asset: Asset) -> dict[str, Any]:
        tag = self.github.store.releases[asset.release].shown_tag
        return {
            "url": f"{self._origin}/repos/{REPOSITORY}/releases/assets/{asset.id}",
            "browser_download_url": f"{self._origin}/{REPOSITORY}/releases/download/{tag}/{asset.name}",
            "id": asset.id,
            "name": asset.name,
            "state": asset.state,
            "size": len(asset.data),
            "digest": asset.digest,
        }

    def _page(self, entries: list[Any]) -> _Answer:
        size = min(int(self.query.get("per_page", ["30"])[0]), self.github.page_size)
        page = int(self.query.get("page", ["1"])[0])
        query = urlencode(self.query | {"per_page": [size], "page": [page + 1]}, doseq=True)
        url = f"{self._origin}{urlsplit(self.path).path}?{query}"
        more = page * size < len(entries)
        headers = {"Link": f'<{url}>; rel="next"'} if more else {}
        return 200, entries[(page - 1) * size : page * size], headers

    def _json(self) -> Any:
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def _send(self, status: int, body: Any, headers: dict[str, str]) -> None:
        data = b"" if body is None else json.dumps(body).encode()
        usual = {"X-RateLimit-Remaining": "4999"}
        if status != 204:
            usual |= {"Content-Length": str(len(data)), "Content-Type": "application/json; charset=utf-8"}
        if status >= 400:  # the rest of the request's body would be read as the next request
            usual["Connection"] = "close"
        self.send_response(status)
        for name, value in (usual | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass
