"""Relay from Alertmanager's webhook to GitHub's repository_dispatch, which starts the workflow retrain.yml.

Alertmanager sends JSON of its own, and GitHub expects another. This server accepts the first and sends the
second, at most once per period. It needs Python only, so that any image with Python runs it as one file.
docs/monitoring.md describes the set-up.

Environment:
    GITHUB_REPOSITORY   owner/name
    GITHUB_TOKEN_FILE   file with a token that has contents: write in that repository, and nothing else
    RELAY_TOKEN_FILE    file with the token that Alertmanager sends, of at least 16 characters
    RELAY_STATE_FILE    file whose time of change is that of the last dispatch; it survives a restart
    RELAY_HOURS         the period; default: 24
    RELAY_ADDRESS       where to listen; default: 127.0.0.1:9095
    GITHUB_API_URL      default: https://api.github.com
"""

import hmac
import http.client
import json
import os
import re
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

EVENT = "retrain"
"""Type of the repository_dispatch event, which retrain.yml names."""

_MAX_BYTES = 1 << 20
_MAX_NAMES = 10
_TIMEOUT_S = 20
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class RelayError(Exception):
    """A setting is missing or not valid, or GitHub does not accept the event."""


@dataclass(frozen=True)
class Relay:
    """Sends events to GitHub, at most one per period.

    Attributes:
        api: URL of GitHub's API.
        repository: owner/name.
        token: for GitHub.
        password: what Alertmanager must send as Bearer token.
        state: file whose time of change is that of the last event.
        period_s: seconds between two events.
        lock: held while an event is sent, so that two requests at once send one.
    """

    api: str
    repository: str
    token: str
    password: str
    state: Path
    period_s: float
    lock: threading.Lock

    def left_s(self) -> float:
        """Return how many seconds remain until the next event may be sent; 0 or less: it may."""
        try:
            return self.state.stat().st_mtime + self.period_s - time.time()
        except FileNotFoundError:
            return 0.0

    def dispatch(self, alerts: list[str]) -> None:
        """Send the event, with the names of the alerts that caused it.

        Raises:
            RelayError: GitHub cannot be reached, or does not accept it.
            OSError: the state cannot be written, so that nothing was sent.
        """
        if not self.state.exists():
            self.state.touch()
            os.utime(self.state, (0, 0))
        with self.state.open("a"):  # otherwise each attempt of Alertmanager would send another event
            pass
        parts = urlsplit(self.api)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=_TIMEOUT_S)
        headers = {
            "Authorization": f"Bearer {self.token}",
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
            "Content-Type": "application/json",
            "User-Agent": "cats-vs-dogs",
        }
        body = json.dumps({"event_type": EVENT, "client_payload": {"alerts": alerts}})
        path = f"{parts.path.rstrip('/')}/repos/{self.repository}/dispatches"
        try:
            connection.request("POST", path, body, headers)
            status = connection.getresponse().status  # no redirect is followed: the token stays here
        except (OSError, http.client.HTTPException) as error:
            raise RelayError(f"no response from GitHub ({type(error).__name__})") from error
        finally:
            connection.close()
        if status != 204:
            raise RelayError(f"GitHub answers {status} instead of 204")
        self.state.touch()


def firing(body: bytes) -> list[str]:
    """Return the names of the alerts that fire in a notification of Alertmanager, without duplicates.

    Raises:
        ValueError: it is no such notification.
    """
    try:
        notification = json.loads(body)
        alerts = [alert for alert in notification["alerts"] if alert["status"] == "firing"]
        names = {str(alert["labels"]["alertname"]) for alert in alerts}
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError("the body is no notification of Alertmanager") from error
    return sorted(name for name in names if re.fullmatch(r"[A-Za-z0-9_]{1,64}", name))[:_MAX_NAMES]


class Handler(BaseHTTPRequestHandler):
    """Answers Alertmanager: it sends a notification again after a status of 500 or more, not after others."""

    relay: Relay
    timeout = _TIMEOUT_S

    def do_POST(self) -> None:
        """Answer one notification."""
        expected = f"Bearer {self.relay.password}".encode()
        if not hmac.compare_digest(self.headers.get("Authorization", "").encode(), expected):
            return self._answer(401, "the token is not RELAY_TOKEN_FILE's")
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"[0-9]{1,9}", length):
            return self._answer(411, "Content-Length is missing")
        if int(length) > _MAX_BYTES:
            return self._answer(413, f"more than {_MAX_BYTES:,} bytes")
        try:
            names = firing(self.rfile.read(int(length)))
        except ValueError as error:
            return self._answer(400, str(error))
        if not names:
            return self._answer(200, "no alert fires")
        with self.relay.lock:
            if (left_s := self.relay.left_s()) > 0:
                return self._answer(200, f"already sent; the next one may be sent in {left_s:.0f} s")
            try:
                self.relay.dispatch(names)
            except (RelayError, OSError) as error:
                return self._answer(502, str(error))
        return self._answer(200, f"sent for {', '.join(names)}")

    def _answer(self, status: int, text: str) -> None:
        body = f"{text}\n".encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")  # an unread body must not become the next request
        self.end_headers()
        self.wfile.write(body)
        self.log_message("%s", text)


def from_environment(variables: Mapping[str, str]) -> Relay:
    """Return the relay that the environment describes.

    Raises:
        RelayError: a variable is missing or not valid.
    """

    def value(name: str, pattern: str, default: str = "") -> str:
        text = variables.get(name) or default
        if not re.fullmatch(pattern, text):
            raise RelayError(f"{name} is missing or not valid")
        return text

    def secret(name: str) -> str:
        path = Path(value(name, ".+"))
        try:
            text = path.read_text("utf-8").strip()
        except (OSError, ValueError) as error:
            raise RelayError(f"{name}: {path} cannot be read") from error
        if not re.fullmatch(r"[!-~]{16,}", text):
            raise RelayError(f"{name}: {path} must hold a token of at least 16 characters")
        return text

    api = value("GITHUB_API_URL", r"https?://[A-Za-z0-9.:/_-]+", "https://api.github.com")
    if not api.startswith("https://") and urlsplit(api).hostname not in _LOOPBACK:
        raise RelayError("GITHUB_API_URL must be https://, because the token is sent there")
    return Relay(
        api=api,
        repository=value("GITHUB_REPOSITORY", r"[A-Za-z0-9-]{1,100}/[A-Za-z0-9._-]{1,100}"),
        token=secret("GITHUB_TOKEN_FILE"),
        password=secret("RELAY_TOKEN_FILE"),
        state=Path(value("RELAY_STATE_FILE", ".+")),
        period_s=3600 * float(value("RELAY_HOURS", r"[0-9]{1,4}(\.[0-9]{1,6})?", "24")),
        lock=threading.Lock(),
    )


def main() -> None:
    """Listen until the process is ended."""
    try:
        relay = from_environment(os.environ)
        host, _, port = os.environ.get("RELAY_ADDRESS", "127.0.0.1:9095").rpartition(":")
        bound: dict[str, Any] = {"relay": relay}
        server = ThreadingHTTPServer((host, int(port)), type("BoundHandler", (Handler,), bound))
    except (RelayError, OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    server.daemon_threads = True
    server.serve_forever()


if __name__ == "__main__":
    main()
