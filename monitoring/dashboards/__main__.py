"""Write Grafana's dashboards, JSON, to monitoring/grafana/dashboards."""

import argparse
from pathlib import Path

from grafana_foundation_sdk.cog.encoder import JSONEncoder

from monitoring.dashboards import model, service

FOLDER = Path(__file__).parents[1] / "grafana" / "dashboards"


def texts() -> dict[str, str]:
    """Return the contents of the files by their names."""
    boards = {"service.json": service.board(), "model.json": model.board()}
    encoder = JSONEncoder(sort_keys=True, indent=2)
    return {name: encoder.encode(board.build()) + "\n" for name, board in boards.items()}


def main() -> None:
    """Write the files."""
    argparse.ArgumentParser(prog="python -m monitoring.dashboards", description=__doc__).parse_args()
    FOLDER.mkdir(exist_ok=True)
    for name, text in texts().items():
        (FOLDER / name).write_text(text)


if __name__ == "__main__":
    main()
