"""URLs: whether secrets may go there."""

import pytest

from ml.model.urls import may_get_secrets


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://example.org/v1", True),
        ("http://127.0.0.1:8080", True),
        ("http://[::1]:8080", True),
        ("http://example.org", False),
        ("https://user:password@example.org", False),
        ("https://example.org?key=1", False),
        ("https://", False),
        ("https://[", False),
        ("https://example.org:0", False),
        ("ftp://127.0.0.1", False),
    ],
)
def test_where_a_token_may_be_sent(url, allowed):
    assert may_get_secrets(url) is allowed
