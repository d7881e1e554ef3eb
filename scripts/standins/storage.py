"""A stand-in for the storage that GitHub redirects downloads to: ranges, and signed URLs only."""

import hashlib
import http.server
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

from scripts.standins.github_store import Store

SIGNATURE = "c2lnbmVk"


class StorageHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two packets
    store: Store
    seen: list[dict[str, str]]
    break_after: list[int]  # the next responses end after this many bytes

    def do_GET(self) -> None:
        self.seen.append({name.lower(): value for name, value in self.headers.items()})
        if "Authorization" in self.headers:  # as Azure's blob storage rejects it with a signed URL
            self._refuse(400, "InvalidAuthenticationInfo")
            return
        parts = urlsplit(self.path)
        found = re.fullmatch(r"/assets/([0-9]+)", parts.path)
        asset = self.store.assets.get(int(found[1])) if found else None
        if asset is None or parse_qs(parts.query).get("sig") != [SIGNATURE]:
            self._refuse(
                404 if asset is None else 403, "BlobNotFound" if asset is None else "AuthenticationFailed"
            )
            return
        data = self.store.blob(asset).read_bytes()
        tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        if self.headers.get("If-None-Match") == tag:
            self._head(304, {"ETag": tag})
            return
        headers = {
            "ETag": tag,
            "Accept-Ranges": "bytes",
            "Content-Type": "application/octet-stream",
            "Content-Disposition": f"attachment; filename={asset.name}",
        }
        asked = re.fullmatch(r"bytes=([0-9]+)-([0-9]*)", self.headers.get("Range", ""))
        if asked and self.headers.get("If-Range", tag) == tag:
            first, last = int(asked[1]), min(int(asked[2] or len(data)), len(data) - 1)
            if first > last:
                self._head(416, {"Content-Range": f"bytes */{len(data)}", "Content-Length": "0"})
                return
            total, data = len(data), data[first : last + 1]
            headers |= {"Content-Range": f"bytes {first}-{last}/{total}", "Content-Length": str(len(data))}
            self._head(206, headers)
        else:
            self._head(200, headers | {"Content-Length": str(len(data))})
        if self.command == "GET":
            if self.break_after:
                data, self.close_connection = data[: self.break_after.pop(0)], True
            self.wfile.write(data)

    def do_HEAD(self) -> None:
        self.do_GET()

    def _refuse(self, status: int, code: str) -> None:
        body = f"<?xml version='1.0'?><Error><Code>{code}</Code></Error>".encode()
        self._head(status, {"Content-Type": "application/xml", "Content-Length": str(len(body))})
        if self.command == "GET":
            self.wfile.write(body)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass
