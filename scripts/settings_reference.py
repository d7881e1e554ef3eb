"""Write docs/settings.md, the table of the service's environment variables, from app/settings.py."""

import sys
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from app.settings import Settings, variable
from scripts.common.generated import write_or_check

TARGET = Path(__file__).resolve().parents[1] / "docs" / "settings.md"

_HEAD = """\
# Settings of the service

<!-- Generated from app/settings.py by `python -m scripts.settings_reference`: edit that file. -->

Environment variables configure the service. A `.env` file in the current folder works too; variables of
the process take precedence over it. An empty variable counts as unset. If a value is invalid, the service
doesn't start and prints one line that names the variable. If a variable's name looks like a misspelt setting,
the service logs a warning.

| variable | values | default | meaning |
| --- | --- | --- | --- |
"""


def table() -> str:
    """Return the document, Markdown."""
    return _HEAD + "".join(_row(setting) for setting in fields(Settings))


def _row(setting: Field[Any]) -> str:
    cells = (
        f"`{variable(setting)}`",
        setting.metadata["parser"].values,
        _default(setting),
        setting.metadata["meaning"],
    )
    return f"| {' | '.join(cell.replace('|', '&#124;') for cell in cells)} |\n"


def _default(setting: Field[Any]) -> str:
    if shown := setting.metadata["shown"]:
        return str(shown)
    if setting.default is None or setting.default == ():
        return "unset"
    if isinstance(setting.default, bool):
        return "`on`" if setting.default else "`off`"
    return f"`{setting.default}`"


if __name__ == "__main__":
    sys.exit(write_or_check(table, TARGET, __doc__))
