"""Check params.yaml, and optionally set values in it first; comments are kept."""

import argparse
import copy
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml import params
from ml.cli import say
from ml.model.errors import PipelineError
from ml.model.files import replaced

EXAMPLE = "python -m ml params train.arch=simple_cnn prepare.image_size=96"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "changes",
        nargs="*",
        type=_change,
        metavar="KEY=VALUE",
        help="a parameter by its dotted name, and its new value",
    )


def _change(argument: str) -> tuple[str, str]:
    key, separator, value = argument.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError(f"{argument!r} is not of the form KEY=VALUE")
    return key, value


def main(arguments: argparse.Namespace) -> None:
    """Set the values, if there are any, and check the file."""
    if arguments.changes:
        assign(dict(arguments.changes))
    params.load()
    say(f"{params.PATH} is valid")


def assign(changes: Mapping[str, str], path: Path = params.PATH) -> None:
    """Set parameters in the file and keep its comments; if one is invalid, nothing is written.

    Args:
        changes: values as YAML, by dotted name.
        path: of the file.

    Raises:
        PipelineError: there is no such parameter, or its value is invalid.
    """
    from ruamel.yaml import YAML  # after ml.params, which says what to do if it is missing

    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 1 << 16
    yaml.indent(mapping=2, sequence=4, offset=2)  # as in the file, so that only the changed lines differ
    yaml.representer.add_representer(type(None), _null)
    text = params.read_text(path)
    params.check(text, path)
    document = yaml.load(text)
    for key, value in changes.items():
        *sections, name = key.split(".")
        section: Any = document
        for part in sections:
            section = _own(section, part) if isinstance(section, dict) else None
        if not isinstance(section, dict) or name not in section:
            raise PipelineError(f"{path} has no parameter {key}")
        section[name] = value if isinstance(section[name], str) else params.parse(value, key)
    buffer = io.StringIO()
    yaml.dump(document, buffer)
    params.check(buffer.getvalue(), path)
    try:
        with replaced(path) as file:
            file.write(buffer.getvalue().encode())
    except OSError as error:
        raise PipelineError(f"{path} cannot be written: {error.strerror}") from error


def _null(representer: Any, _: None) -> Any:
    return representer.represent_scalar("tag:yaml.org,2002:null", "null")


def _own(section: Any, name: str) -> Any:
    """Return a nested section; one that a YAML merge key (`<<`) shares with others is copied first."""
    child = section.get(name)
    if any(source.get(name) is child for source in getattr(section, "merge", None) or ()):
        child = section[name] = copy.deepcopy(child)
    return child
