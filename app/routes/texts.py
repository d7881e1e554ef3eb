"""The texts of the pages: one file per language in app/texts/, chosen by Accept-Language."""

import functools
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from flask import Response, request

_FOLDER = Path(__file__).parents[1] / "texts"
_DEFAULT = "en"


@functools.cache
def languages() -> dict[str, dict[str, Any]]:
    """Return the texts of each language by its BCP 47 tag, the default language first."""
    paths = sorted(_FOLDER.glob("*.json"), key=lambda path: (path.stem != _DEFAULT, path.stem))
    return {path.stem: json.loads(path.read_text("utf-8")) for path in paths}


def of(tag: str) -> SimpleNamespace:
    """Return the texts of a language as attributes, for templates: a dict has methods such as `copy`."""
    return SimpleNamespace(**languages()[tag])


def language() -> str:
    """Return the language of the response to the current request."""
    for accepted, quality in request.accept_languages:  # the most wanted first
        for tag in (accepted, accepted.partition("-")[0].lower()):
            if quality > 0 and tag in languages():
                return tag
    return _DEFAULT


def vary(response: Response, tag: str) -> Response:
    """Say in a response which language it is in, and that it depends on the request's."""
    response.headers["Content-Language"] = tag
    response.vary.add("Accept-Language")
    return response
