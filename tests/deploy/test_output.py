"""Values that no output of a deployment may hold."""

import pytest

from deploy import output


@pytest.mark.parametrize(
    ("name", "value", "text", "printed"),
    [
        ("API_KEYS", "one-1111,two-2222", "one-1111 or two-2222", "*** or ***"),
        ("ALERT_SECRET", "https://example.org/hook/0123", "to https://example.org/hook/0123", "to ***"),
        (
            "MODEL_URL", "https://me:pass@example.org/m.pt?sig=0123",
            "https://me:pass@example.org/m.pt?sig=0123", "https://***@example.org/m.pt?***",
        ),
        ("MODEL_URL", "https://example.org/m.pt", "https://example.org/m.pt", "https://example.org/m.pt"),
        ("LOG_LEVEL", "debug", "debug", "debug"),
        ("UNNAMED", "a-long-value-without-a-telling-name", "a-long-value-without-a-telling-name", "***"),
    ],
)  # fmt: skip
def test_what_is_hidden(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, text: str, printed: str
) -> None:
    monkeypatch.setattr(output, "_hidden", set())
    output.hide_variables({name: value})
    assert output.line(text) == printed
