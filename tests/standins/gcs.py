"""A stand-in for Google Cloud Storage's JSON API: one bucket in memory, on loopback."""

import contextlib
import json
import re
from collections.abc import Iterator
from email.parser import BytesParser
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.helpers.http_server import Handler, Server

_OBJECT = re.compile(r"/(?:download/)?storage/v1/b/([^/]+)/o/(.+)")


class Bucket:
    """The objects by their names, and the address of the server."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.url = ""


class _Handler(Handler):
    protocol_version = "HTTP/1.1"
    bucket: Bucket

    def do_POST(self) -> None:
        """Upload an object: its description and its content are the parts of the body."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        message = BytesParser().parsebytes(
            f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode() + body
        )
        description, content = (part.get_payload(decode=True) for part in message.get_payload())  # type: ignore
        name = json.loads(description)["name"]
        self.bucket.objects[name] = content
        self._send(200, self._describe(name))

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        match = _OBJECT.fullmatch(url.path)
        if match and (name := unquote(match[2])) in self.bucket.objects:
            if query.get("alt") == "media" or "/download/" in url.path:
                self._content(self.bucket.objects[name])
            else:
                self._send(200, self._describe(name))
        elif url.path.endswith("/o"):
            self._list(query.get("prefix", ""), query.get("delimiter", ""))
        else:
            self._send(404, {"error": {"code": 404, "message": "Not Found"}})

    def do_DELETE(self) -> None:
        match = _OBJECT.fullmatch(urlsplit(self.path).path)
        found = match and self.bucket.objects.pop(unquote(match[2]), None) is not None
        self._send(204 if found else 404, None if found else {"error": {"code": 404, "message": "Not Found"}})

    def _list(self, prefix: str, delimiter: str) -> None:
        names = [name for name in self.bucket.objects if name.startswith(prefix)]
        folders = {
            prefix + name[len(prefix) :].partition("/")[0] + "/"
            for name in names
            if delimiter and "/" in name[len(prefix) :]
        }
        items = [name for name in names if not any(name.startswith(folder) for folder in folders)]
        self._send(200, {"prefixes": sorted(folders), "items": list(map(self._describe, items))})

    def _describe(self, name: str) -> dict[str, Any]:
        size = str(len(self.bucket.objects[name]))
        times = dict.fromkeys(("timeCreated", "updated"), "2026-11-27T14:03:22.000Z")
        return {"bucket": "photos", "name": name, "size": size, "generation": "1"} | times

    def _content(self, content: bytes) -> None:
        status, part = 200, re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if part:
            status, content = 206, content[int(part[1]) : int(part[2]) + 1 if part[2] else None]
        self.answer(status, content)

    def _send(self, status: int, document: object) -> None:
        content = b"" if document is None else json.dumps(document).encode()
        self.answer(status, content, {"Content-Type": "application/json"})


@contextlib.contextmanager
def bucket() -> Iterator[Bucket]:
    made = Bucket()
    with Server(type("_Bound", (_Handler,), {"bucket": made})) as server:
        made.url = server.url
        yield made
