"""The address of a client, which a proxy may have forwarded."""

from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

from app.settings import Network

CLIENT = "app.client"
"""Key in the WSGI environment: what counts as the client of the request, see `app.http.gate.Gate.client`."""

_ENTRIES = 20
"""Entries of X-Forwarded-For that are read: more than a real chain of proxies has."""
_UNKNOWN = IPv4Address(0)


def client_address(peer: str, forwarded_for: str, trusted: Sequence[Network]) -> IPv4Address | IPv6Address:
    """Return the address that a request came from, as far as it is known for sure.

    Each proxy appends the address of its own client to X-Forwarded-For. So the header is read from the right,
    for as long as the entry before is that of a trusted proxy. An entry that is no address ends the search.

    Args:
        peer: address of the other end of the connection.
        forwarded_for: the header X-Forwarded-For; empty: there is none.
        trusted: networks of the trusted proxies, TRUSTED_PROXIES.
    """
    address = _parse(peer) or _UNKNOWN
    entries = forwarded_for.rsplit(",", _ENTRIES)[-_ENTRIES:] if forwarded_for else []
    while entries and any(address in network for network in trusted):
        entry = _parse(_without_port(entries.pop().strip(" \t")))
        if not entry:
            break
        address = entry
    return address


def is_in(peer: str, networks: Sequence[Network]) -> bool:
    """Return whether the other end of a connection belongs to one of the networks."""
    address = _parse(peer)
    return address is not None and any(address in network for network in networks)


def group(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Network:
    """Return what counts as one client: an IPv4 address, or the /64 network of an IPv6 address.

    A customer of a provider usually has a whole /64 network, so one address of it identifies nobody.
    """
    return address if isinstance(address, IPv4Address) else IPv6Network((int(address) >> 64 << 64, 64))


@lru_cache(maxsize=1024)
def peer_group(peer: str) -> IPv4Address | IPv6Network:
    """Return what counts as one client for the other end of a connection."""
    return group(client_address(peer, "", ()))


def _without_port(entry: str) -> str:
    if entry.startswith("["):  # [2001:db8::1]:1234
        return entry[1:].partition("]")[0]
    return entry.partition(":")[0] if entry.count(":") == 1 else entry  # 192.0.2.1:1234


def _parse(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    # A socket that listens on :: shows IPv4 clients as ::ffff:192.0.2.1.
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
