"""Write docs/settings.md, the table of the service's environment variables, from app/settings.py."""

import sys
from dataclasses import Field, fields
from typing import Any

from app.routes.api_markdown import row
from app.settings import Settings, variable
from app.telemetry.tracing import VARIABLES
from scripts.common.generated import write_or_check
from scripts.common.process import ROOT

TARGET = ROOT / "docs" / "settings.md"

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

_TRACING = """
## Tracing

If OpenTelemetry is installed ([monitoring.md](monitoring.md#tracing)), its standard variables configure it.
These are the most important ones;
[its specification](https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/) lists
all. An invalid value causes a warning, never a failed start.

| variable | meaning |
| --- | --- |
"""


def table() -> str:
    """Return the document, Markdown."""
    rows = (
        row(f"`{variable(one)}`", one.metadata["parser"].values, _default(one), one.metadata["meaning"])
        for one in fields(Settings)
    )
    tracing = (row(f"`{name}`", meaning) for name, meaning in VARIABLES.items())
    return _HEAD + "".join(f"{line}\n" for line in rows) + _TRACING + "".join(f"{line}\n" for line in tracing)


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
