"""The command lines of the scripts."""

import argparse
import math
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def parser(script: str, description: str | None, example: str) -> argparse.ArgumentParser:
    """Return the parser of a script; `example` is the arguments of an example that --help shows."""
    command = f"python -m scripts.{script}"
    return argparse.ArgumentParser(
        prog=command,
        description=description,
        epilog=f"example:\n  {command} {example}".rstrip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def at_least(least: float) -> Callable[[str], float]:
    """Return the parser of a finite number that is not below `least`."""

    def number(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value < math.inf:
            raise argparse.ArgumentTypeError(f"expected a number from {least:g}, not {text!r:.40}")
        return value

    return number


def listed(parse: Callable[[str], T]) -> Callable[[str], list[T]]:
    """Return the parser of a list, separated by commas, of what `parse` takes."""

    def numbers(text: str) -> list[T]:
        return [parse(part) for part in text.split(",")]

    return numbers
