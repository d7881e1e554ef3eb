"""The command lines of the scripts."""

import argparse


def parser(script: str, description: str | None, example: str) -> argparse.ArgumentParser:
    """Return the parser of a script; `example` is the arguments of an example that --help shows."""
    command = f"python -m scripts.{script}"
    return argparse.ArgumentParser(
        prog=command,
        description=description,
        epilog=f"example:\n  {command} {example}".rstrip(),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
