"""A stand-in for the storage that GitHub redirects downloads to: ranges, and signed URLs only."""

import hashlib
import http.server
import re
from typing import Any
from urllib.parse import urlsplit

from scripts.standins.github_store import Store

SIGNATURE = "sig=c2lnbmVk"


class StorageHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two packets
    store: Store
    seen: list[dict[str, str]]
    break_after: list[int]  # the next responses end after this many bytes

    def do_GET(self) -> None:
        self.seen.append({name.lower(): value for name, value in self.headers.items()})
        if "Authorization" in self.headers:  # Azure's blob storage rejects it with a signed URL
            self.send_error(400, "InvalidAuthenticationInfo")
            return
        url = urlsplit(self.path)
        asset = self.store.assets.get(int(url.path.rpartition("/")[2]))
        if asset is None or url.query != SIGNATURE:
            self.send_error(403, "AuthenticationFailed")
            return
        status, data, first = 200, asset.data, 0
        tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        part = re.fullmatch(r"bytes=([0-9]+)-", self.headers.get("Range", ""))
        if self.headers.get("If-None-Match") == tag:
            status, data = 304, b""
        elif part and self.headers.get("If-Range", tag) == tag:
            status, first = 206, int(part[1])
        self.send_response(status)
        self.send_header("ETag", tag)
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        if status != 304:
            self.send_header("Content-Length", str(len(data) - first))
        self.end_headers()
        data = data[first:]
        if self.break_after:
            data, self.close_connection = data[: self.break_after.pop(0)], True
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass
