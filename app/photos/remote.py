"""Photos that are fetched from hosts in ALLOWED_IMAGE_HOSTS."""

import contextlib
import http.client
import itertools
import os
import socket
import threading
import time
from collections.abc import Callable, Collection
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge, UnprocessableEntity

from app.parsers import Origin
from ml.model.body import ResponseBody
from ml.model.http import Client, DownloadError, Timeouts, UnreachableError, refusal
from ml.model.urls import origin

AT_ONCE = 16
"""Photos that are fetched at the same time."""
_TOTAL_S = 10.0
"""Time for one photo, with all redirects."""
_TIMEOUTS = Timeouts(connect_s=4.0, read_s=5.0, answer_s=_TOTAL_S)
_ADDRESSES = 3
"""Addresses of one host that are tried."""
_MAX_HEADER_BYTES = 64 * 1024
"""Largest header of a response, with the responses 1xx before it. `http.client` alone takes 6 MB, and any
number of responses 1xx."""
_HEADERS = {"Accept": "image/*", "Accept-Encoding": "identity"}

_NAT64 = IPv6Network("64:ff9b::/96")
"""IPv4 addresses as networks with IPv6 only write them (RFC 6052)."""


class NotAllowedError(DownloadError):
    """The URL, or one that it redirects to, may not be fetched."""


class RemotePhotos:
    """Fetches photos; several threads can use it in parallel.

    Args:
        allowed: the origins to fetch from.
        max_bytes: the largest photo.
    """

    def __init__(self, allowed: Collection[Origin], max_bytes: int) -> None:
        self._allowed, self._max_bytes = allowed, max_bytes
        self._room = threading.BoundedSemaphore(AT_ONCE)

    def fetch(self, url: str, count: Callable[[int], None]) -> bytes:
        """Return the content behind a URL, whatever its type.

        Args:
            url: the address.
            count: called with the number of bytes whenever some have arrived; may raise an exception.

        Raises:
            BadRequest: the URL is not valid, or not one that may be fetched.
            UnprocessableEntity: its host doesn't answer in time, or not with a photo.
            RequestEntityTooLarge: the photo is too large.
        """
        try:
            return self._fetch(url, count)
        except NotAllowedError as error:
            raise BadRequest(f"the image can't be fetched: {error}") from None
        except DownloadError as error:
            raise UnprocessableEntity(f"the image can't be fetched: {error}") from None

    def _fetch(self, url: str, count: Callable[[int], None]) -> bytes:
        deadline = time.monotonic() + _TOTAL_S
        try:
            parts = urlsplit(url)
            if parts.scheme.lower() not in ("http", "https") or parts.port == 0:
                raise ValueError
            client = Client(url, None)
        except ValueError:
            raise NotAllowedError("'url' must be an http(s) address") from None
        # Neither proxies nor ~/.netrc of the environment: a proxy would resolve the host once more.
        client.trust_env = False
        client.verify = os.environ.get("REQUESTS_CA_BUNDLE") or True
        adapter = _CheckedAdapter(self._allowed, self._room)
        for scheme in ("http://", "https://"):
            client.mount(scheme, adapter)
        try:
            with client, client.open(client.url, _HEADERS, _TIMEOUTS) as response:
                if response.status_code != 200:
                    raise refusal(response)
                announced = response.headers.get("Content-Length", "")
                if announced.isdecimal() and int(announced[:20]) > self._max_bytes:
                    raise self._too_large()
                return self._receive(response, deadline, count)
        finally:
            adapter.disconnect()

    def _receive(self, response: requests.Response, deadline: float, count: Callable[[int], None]) -> bytes:
        photo = bytearray()
        with ResponseBody(response) as body:
            while piece := body.read(deadline):
                count(len(piece))
                photo += piece
                if len(photo) > self._max_bytes:
                    raise self._too_large()
                if time.monotonic() > deadline:
                    raise UnreachableError(f"it isn't complete after {_TOTAL_S:.0f} s")
        return bytes(photo)

    def _too_large(self) -> RequestEntityTooLarge:
        return RequestEntityTooLarge(
            f"the image at the URL is larger than {self._max_bytes >> 20} MB, the limit of this service"
        )


class _CheckedAdapter(HTTPAdapter):
    """Sends requests to allowed origins only, and connects to the very addresses that it has checked.

    A check is worth nothing if the connection then goes elsewhere: the name may resolve to another address by
    then (DNS rebinding), and two parsers may read different hosts from one URL.
    """

    def __init__(self, allowed: Collection[Origin], room: threading.BoundedSemaphore) -> None:
        super().__init__()
        self._allowed, self._room = allowed, room
        self._address = ""
        self._socket: socket.socket | None = None
        self._disconnected = False

    def send(self, request: requests.PreparedRequest, *arguments: Any, **options: Any) -> requests.Response:
        """Send a request, to the first of the host's addresses that answers."""
        # A name server that doesn't answer keeps the thread, whose caller goes on at the deadline.
        if not self._room.acquire(blocking=False):
            raise UnreachableError("too many hosts are slow to answer; try again later")
        try:
            scheme, host, port = target = origin(request.url or "")
            if target not in self._allowed or host is None:
                raise NotAllowedError(f"this service fetches no images from {scheme}://{host}:{port}")
            request.headers["Host"] = urlsplit(request.url or "").netloc
            addresses = _alternating(_addresses(host, port))[:_ADDRESSES]
            for number, self._address in enumerate(addresses, 1):
                try:
                    return super().send(request, *arguments, **options)
                except requests.ConnectionError:
                    if number == len(addresses):
                        raise
            raise UnreachableError(f"{host} has no address")
        finally:
            self._room.release()

    def disconnect(self) -> None:
        """End the connection. The caller may have given up waiting for a header that the host still sends."""
        self._disconnected = True
        self._shut_down()

    def _shut_down(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                # Not the method of a TLS socket, which changes it while another thread reads from it.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def get_connection_with_tls_context(self, *arguments: Any, **options: Any) -> Any:
        """Return a pool whose connections can be ended in another thread, and limit headers."""
        pool: Any = super().get_connection_with_tls_context(*arguments, **options)
        make_connection = type(pool).ConnectionCls

        def connection(**options: Any) -> Any:
            made = make_connection(**options)
            made.response_class = self._response
            return made

        pool.ConnectionCls = connection
        return pool

    def _response(self, sock: socket.socket, **options: Any) -> "_Response":
        self._socket = sock
        if self._disconnected:
            self._shut_down()
        return _Response(sock, **options)

    def build_connection_pool_key_attributes(
        self, request: requests.PreparedRequest, verify: Any, cert: Any = None
    ) -> tuple[Any, Any]:
        """Return where to connect to: the checked address, with TLS for the host's name."""
        place: dict[str, Any]
        options: dict[str, Any]
        place, options = super().build_connection_pool_key_attributes(request, verify, cert)  # type: ignore
        if place["scheme"] == "https":
            options |= {"server_hostname": place["host"], "assert_hostname": place["host"]}
        return place | {"host": self._address}, options


class _Response(http.client.HTTPResponse):
    """A response whose header is limited."""

    def begin(self) -> None:
        """Read the header, and those of responses 1xx before it."""
        body = self.fp
        self.fp = _LimitedLines(body)  # type: ignore[assignment]
        try:
            super().begin()
        finally:
            self.fp = body


class _LimitedLines:
    """Reads lines from a file, up to _MAX_HEADER_BYTES altogether."""

    def __init__(self, file: Any) -> None:
        self._file, self._left = file, _MAX_HEADER_BYTES

    def readline(self, limit: int) -> bytes:
        """Return the next line."""
        line: bytes = self._file.readline(min(limit, self._left + 1))
        self._left -= len(line)
        if self._left < 0:
            raise http.client.LineTooLong("header")
        return line

    def close(self) -> None:
        """Close the file, as http.client does if the first line is not HTTP's."""
        self._file.close()


def _addresses(host: str, port: int) -> list[str]:
    """Return the addresses of a host; all must be public unless the operator wrote an address."""
    try:
        return [str(ip_address(host))]
    except ValueError:
        pass  # it is a name
    try:
        infos = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise UnreachableError(f"{host} can't be resolved") from None
    addresses = list(dict.fromkeys(str(info[4][0]) for info in infos))
    if not all(map(is_public, addresses)):
        raise NotAllowedError(f"{host} has an address that isn't public")
    return addresses


def _alternating(addresses: list[str]) -> list[str]:
    """Return addresses with those of the other family in every second place, as RFC 8305 has it.

    A host may have many IPv6 addresses that this machine can't reach.
    """
    preferred = [address for address in addresses if (":" in address) == (":" in addresses[0])]
    others = [address for address in addresses if address not in preferred]
    pairs = itertools.zip_longest(preferred, others)
    return [address for pair in pairs for address in pair if address]


def is_public(address: str) -> bool:
    """Return whether an address is on the internet, and not of a private network, a link or this machine."""
    ip: IPv4Address | IPv6Address = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address):
        embedded = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if ip in _NAT64:
            embedded = IPv4Address(int(ip) & 0xFFFFFFFF)
        if embedded is not None:
            ip = embedded
        elif ip.is_site_local:
            return False
    return ip.is_global and not (ip.is_multicast or ip.is_reserved)
