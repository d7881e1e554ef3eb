"""The client's address: nobody but a trusted proxy can say what it is."""

from ipaddress import ip_address, ip_network

import pytest

from app.http.addresses import client_address, group, peer_group
from tests.helpers.served import served

PROXIES = tuple(map(ip_network, ("10.0.0.0/8", "172.64.0.0/13", "fd00::/8")))


@pytest.mark.parametrize(
    ("peer", "forwarded", "expected"),
    [
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),  # the peer is no proxy, so the header is ignored
        ("10.1.1.1", "", "10.1.1.1"),
        ("10.1.1.1", "198.51.100.1", "198.51.100.1"),
        ("10.1.1.1", "2.2.2.2,1.1.1.1, 172.71.95.118, 10.19.64.237", "1.1.1.1"),  # as Render sends it
        ("10.1.1.1", "10.9.9.9, 10.2.2.2", "10.9.9.9"),  # a client in the proxies' network
        ("10.1.1.1", "198.51.100.1:4711", "198.51.100.1"),
        ("10.1.1.1", "[2001:db8::1]:4711", "2001:db8::1"),
        ("fd00::1", "2001:db8::1", "2001:db8::1"),
        ("::ffff:10.1.1.1", "::ffff:198.51.100.1", "198.51.100.1"),
        ("10.1.1.1", "1.1.1.1, unknown", "10.1.1.1"),
        ("10.1.1.1", "1.1.1.1, unknown, 10.2.2.2", "10.2.2.2"),
        ("10.1.1.1", "1.1.1.1,,", "10.1.1.1"),
        ("10.1.1.1", "\xff, " * 5000 + "1.1.1.1", "1.1.1.1"),
        ("10.1.1.1", "10.2.2.2," * 5000, "10.1.1.1"),
        ("nonsense", "1.1.1.1", "0.0.0.0"),
    ],
)
def test_the_client_is_the_rightmost_address_that_is_no_trusted_proxy(peer, forwarded, expected):
    assert client_address(peer, forwarded, PROXIES) == ip_address(expected)


def test_without_trusted_proxies_the_header_changes_nothing():
    assert client_address("10.1.1.1", "1.1.1.1", ()) == ip_address("10.1.1.1")


def test_a_network_of_ipv6_is_one_client():
    assert group(ip_address("2001:db8::1")) == group(ip_address("2001:db8::ffff:1:2:3"))
    assert group(ip_address("2001:db8::1")) != group(ip_address("2001:db8:0:1::1"))
    assert group(ip_address("192.0.2.1")) != group(ip_address("192.0.2.2"))
    assert peer_group("::ffff:192.0.2.1") == peer_group("192.0.2.1")
    assert peer_group("fe80::1%eth0") == group(ip_address("fe80::2"))


@pytest.mark.parametrize(
    ("source", "proto", "scheme"),
    [
        ("127.0.0.2", "https", "https"),
        ("127.0.0.2", "http", "http"),
        ("127.0.0.2", "https, http", "http"),
        ("127.0.0.2", "javascript", "http"),
        ("127.0.0.3", "https", "http"),  # no trusted proxy
    ],
)
def test_a_trusted_proxy_says_the_scheme_of_the_services_address(make_app, source, proto, scheme):
    with served(make_app, trusted_proxies=(ip_network("127.0.0.2/32"),)) as service:
        page = service.ask("GET", "/", source=source, Host="photos.example", X_Forwarded_Proto=proto)
        assert f'content="{scheme}://photos.example/static/share.png"'.encode() in page.content
