"""All output: without secrets, control characters, and lines that a workflow runner would obey."""

import re
import sys
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

_SECRET_NAME = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH")
_MANY = 12  # characters: a shorter value of a variable with a harmless name is a word such as "debug"
_LONGEST = 600

_hidden: set[str] = set()


def hide(*values: str) -> None:
    """Print *** in place of these values from now on. Values of less than 4 characters are not hidden."""
    _hidden.update(value for value in values if len(value) >= 4)


def is_secret(name: str) -> bool:
    """Return whether a variable's name says that its value is a secret."""
    return _SECRET_NAME.search(name.upper()) is not None


def hide_variables(variables: Mapping[str, str | None]) -> None:
    """Hide values that may be secrets: by the variable's name, or because they are long."""
    for name, value in variables.items():
        if value and "://" in value:
            _hide_url(value)
        if value and (is_secret(name) or ("://" not in value and len(value) >= _MANY)):
            hide(value, *(part.strip() for part in value.split(",")))


def _hide_url(url: str) -> None:
    """Hide the user info and the query of a URL, or all of a text that is not a URL."""
    try:
        parts = urlsplit(url)
    except ValueError:
        hide(url)
        return
    hide(parts.netloc.rpartition("@")[0], parts.query, unquote(parts.password or ""), parts.password or "")
    hide(*(pair.partition("=")[2] for pair in parts.query.split("&")))


def line(text: str) -> str:
    """Return a text as one printable line of limited length, with *** for every secret."""
    text = " ".join(_safe(text).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]} …"


def say(text: str) -> None:
    """Print one line at once."""
    print(line(text), flush=True)


def complain(text: str) -> None:
    """Print one line on standard error."""
    print(f"error: {line(text)}", file=sys.stderr, flush=True)


def quote(text: str) -> None:
    """Print a line of another program's output; the mark keeps `::command::` from being a command."""
    print("  |", _safe(text.expandtabs())[:_LONGEST].rstrip(), flush=True)


def _safe(text: str) -> str:
    for secret in sorted(_hidden, key=len, reverse=True):
        text = text.replace(secret, "***")
    text = "".join(character if character.isprintable() else " " for character in text)
    return text.replace("##[", "# #[")  # a runner obeys its older commands anywhere in a line
