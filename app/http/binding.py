"""The listening sockets for HOST and PORT."""

import errno
import logging
import socket
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from waitress import wasyncore

_ANY_IPV4, _ANY_IPV6 = "0.0.0.0", "::"  # noqa: S104
_UNAVAILABLE = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})
_ATTEMPTS = 10
"""How often a free port is sought: one that is free for IPv6 may be taken for IPv4."""

_log = logging.getLogger(__name__)


def listen(host: str, port: int, backlog: int) -> list[socket.socket]:
    """Listen on every address of a host, all on the same port, and log the addresses that this system lacks.

    Args:
        host: an address or a name. `::` stands for all IPv6 and all IPv4 addresses. Each family has a socket
            of its own, because some systems have no socket that serves both.
        port: TCP port; 0: a free one.
        backlog: connections that may wait to be accepted, for each socket.

    Raises:
        OSError: the host has no address, or one that is taken or not allowed, or none that this system has.
    """
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    addresses: dict[tuple[Any, ...], int] = {answer[4]: answer[0] for answer in answers}
    if any(address[0] == _ANY_IPV6 for address in addresses):
        addresses[_ANY_IPV4, port] = socket.AF_INET
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            return _listen(addresses, port, backlog)
        except OSError as error:
            if port or error.errno != errno.EADDRINUSE or attempt == _ATTEMPTS:
                raise
    raise AssertionError


def _listen(addresses: dict[tuple[Any, ...], int], port: int, backlog: int) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    missing: list[OSError] = []
    try:
        for (host, _, *scope), family in addresses.items():
            try:
                one = socket.create_server((host, port, *scope), family=family, backlog=backlog)
            except OSError as error:
                if error.errno not in _UNAVAILABLE:
                    raise
                missing.append(error)
                _log.warning("can't listen on %s: %s", host, error.strerror)
            else:
                sockets.append(one)
                port = one.getsockname()[1]
    except OSError:
        for one in sockets:
            one.close()
        raise
    if not sockets:
        raise missing[0]
    return sockets


def url(host: str, sockets: Sequence[socket.socket]) -> str:
    """Return the URL of the service for a client on this machine.

    Args:
        host: an address or a name, as in HOST.
        sockets: what listens there.
    """
    names = [one.getsockname() for one in sockets]
    bound = {name[0] for name in names}
    if {_ANY_IPV4, _ANY_IPV6} <= bound:
        host = "localhost"  # whichever family it means
    elif _ANY_IPV4 in bound:
        host = "127.0.0.1"
    elif _ANY_IPV6 in bound:
        host = "::1"
    with suppress(OSError):
        socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
        host = f"[{host.replace('%', '%25')}]"  # RFC 6874
    return f"http://{host}:{names[0][1]}"


class OtherSocket(wasyncore.dispatcher):  # type: ignore[misc]  # waitress has no types
    """Another listening socket of a listener, which accepts the connections."""

    accepting = True

    def __init__(self, listener: Any, sock: socket.socket) -> None:
        super().__init__(sock, map=listener.sockets)
        self._listener = listener

    def readable(self) -> bool:
        """Whether to wait for new connections."""
        return bool(self._listener.readable())

    def writable(self) -> bool:
        """Whether to wait until it can send: it never sends."""
        return False

    def handle_accept(self) -> None:
        """Note that clients want to connect."""
        self._listener.handle_accept()
