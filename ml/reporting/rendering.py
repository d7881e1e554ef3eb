"""Rendering of the templates: how they show numbers and names, with every text escaped for their format."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ml.model.files import replaced

MISSING = "-"
"""Stands for a figure that was not measured."""
_NO_SHARES = ("log_loss", "roc_auc", "ece", "auroc")
"""Figures that are not shown in percent."""
_TEMPLATES = Path(__file__).with_name("templates")


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
    filters = (percent, thousands, value, interval, with_interval, position, words, clip, listed)
    environment.filters |= {function.__name__: function for function in filters}
    return environment.get_template(template).render(values)


def write(text: str, path: Path) -> None:
    """Write a file completely or not at all; create its folder.

    Raises:
        OSError: the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as file:
        file.write(text.encode())


def percent(share: float | None) -> str:
    """Return a share as a percentage."""
    return MISSING if share is None else f"{100 * share:.2f} %"


def thousands(number: int) -> str:
    """Return a whole number with separators."""
    return f"{number:,}"


def value(values: Mapping[str, float], name: str) -> str:
    """Return a figure of a report without its interval."""
    return _number(values[name], name) if name in values else MISSING


def interval(values: Mapping[str, float], name: str) -> str:
    """Return the confidence interval of a figure of a report; empty if it has none."""
    ends = (f"{name}_low", f"{name}_high")
    # An end that has an interval is the figure of another class: there may be classes called cat and cat_low.
    if not all(end in values and f"{end}_low" not in values for end in ends):
        return ""
    return f"{_number(values[f'{name}_low'], name)} to {_number(values[f'{name}_high'], name)}"


def with_interval(values: Mapping[str, float], name: str) -> str:
    """Return a figure of a report and its confidence interval."""
    ends = interval(values, name)
    return value(values, name) + (f" ({ends})" if ends else "")


def _number(number: float, name: str) -> str:
    return f"{number:.4f}" if name in _NO_SHARES else percent(number)


def words(name: str) -> str:
    """Return an identifier as words."""
    return name.replace("_", " ")


def clip(name: str) -> str:
    """Return the first 60 characters of a name."""
    return name[:60]


def listed(names: Sequence[str], most: int = 12) -> str:
    """Return the first names of a list, each cut to 60 characters, and the number of the others."""
    shown = ", ".join(clip(name) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def position(number: float, start: float, end: float) -> float:
    """Return the position on a scale from `start` to `end`, in percent; numbers beyond go to its ends."""
    return round(100 * min(max((number - start) / max(end - start, 1e-9), 0), 1), 2)


def escape_markdown(text: str) -> str:
    """Return a text that Markdown shows unchanged, on one line.

    Names of classes are names of folders, so they can hold anything.
    """
    return re.sub(r"([\\`*_\[\]<>|#&])", r"\\\1", re.sub(r"\s+", " ", text))


def _escape_markdown(content: object) -> object:
    """Escape a value that a template inserts, before Jinja escapes it for HTML."""
    if isinstance(content, str) and not isinstance(content, Markup):
        return Markup(escape_markdown(content))  # noqa: S704  (it was escaped)
    return content
