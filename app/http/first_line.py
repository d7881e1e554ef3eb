"""Checks the first bytes of a request, so that a client of another protocol is answered at once."""

import re

from werkzeug.exceptions import BadRequest, HTTPException, HTTPVersionNotSupported

# Each pattern takes linear time, see `app.http.request`. Without a version, it is HTTP/0.9: GET only.
_METHOD = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}(?: |\Z)")
_LINE = re.compile(rb"[^ ]+ [^ ]+ HTTP/[0-9]\.[0-9]|GET [^ ]+")
_VERSION_1 = re.compile(rb" HTTP/1\.[0-9]\Z")

_TLS = "this port speaks HTTP without TLS: use http:// instead of https://"
_PROXY = "the PROXY protocol is not supported: turn it off in the proxy, which should send X-Forwarded-For"
_OTHERS = {b"\x16": _TLS, b"PROXY ": _PROXY, b"\0\r\nQUIT\n": _PROXY}
"""Beginnings of other protocols: TLS, versions 1 and 2 of PROXY (2 without its first empty lines)."""


def find_problem(data: bytes) -> HTTPException | None:
    """Return why bytes can't begin an HTTP/1 request; None: they can, or too few are there to tell.

    Args:
        data: what the client has sent of the request, without empty lines before it.
    """
    for start, detail in _OTHERS.items():
        if data.startswith(start):
            return BadRequest(detail)
    line, end, _ = data.partition(b"\r\n")
    line = line.rstrip() if end else line
    if not _METHOD.match(line) or (end and not _LINE.fullmatch(line)):
        return BadRequest("the first line is not valid")
    if end and b" HTTP/" in line and not _VERSION_1.search(line):
        return HTTPVersionNotSupported("this version of HTTP is not supported: use HTTP/1.1")
    return None
