"""Rendering of the templates, with every inserted text escaped for their format."""

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ml.reporting import formatting

_TEMPLATES = Path(__file__).with_name("templates")
_FILTERS = ("percent", "value", "interval", "with_interval", "position", "words", "clip", "listed")


def render(template: str, *folders: Path, **values: Any) -> str:
    """Return the text that a template makes.

    Args:
        template: file name, `*.html.jinja` or `*.md.jinja`.
        folders: searched for templates before ml/reporting/templates.
        values: for the template.
    """
    environment = Environment(
        loader=FileSystemLoader([*folders, _TEMPLATES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_escape_markdown if template.endswith(".md.jinja") else None,
    )
    environment.filters |= {name: getattr(formatting, name) for name in _FILTERS}
    return environment.get_template(template).render(values)


def write(text: str, path: Path) -> None:
    """Write a file completely or not at all; create its folder.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.part")
    partial.write_text(text, "utf-8")
    partial.replace(path)


def _escape_markdown(content: object) -> object:
    """Escape a value that a template inserts, before Jinja escapes it for HTML."""
    if isinstance(content, str) and not isinstance(content, Markup):
        return Markup(formatting.escape_markdown(content))  # noqa: S704  (it was escaped)
    return content
