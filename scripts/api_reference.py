"""Write docs/API.md, the reference of the HTTP API, from app/openapi.yaml."""

import sys

import yaml

from app.routes import api_markdown
from scripts.common.generated import write_or_check
from scripts.common.process import ROOT

SOURCE = ROOT / "app" / "openapi.yaml"
TARGET = ROOT / "docs" / "API.md"
_NOTE = "<!-- Generated from app/openapi.yaml by `python -m scripts.api_reference`: edit that file. -->"


def reference() -> str:
    """Return the document, Markdown."""
    title, text = api_markdown.reference(yaml.safe_load(SOURCE.read_text("utf-8"))).split("\n\n", 1)
    return f"{title}\n\n{_NOTE}\n\n{text}"


if __name__ == "__main__":
    sys.exit(write_or_check(reference, TARGET, __doc__))
