"""What a change does to parameters, data and metrics, compared with another commit, as JSON and as Markdown.

The metrics are those that are committed in metrics/. `render` expects a hostile file: the workflow of a fork
may have written it.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

LOCK = Path("dvc.lock")
_MAX_BYTES = 1 << 20
_MAX_ROWS = 100
_MAX_TEXT = 80

_EXAMPLES = """examples:
  python -m scripts.comparison collect HEAD^1 >comparison.json     # needs DVC
  python scripts/comparison.py render comparison.json              # needs only Python"""


def collect(base: str) -> dict[str, Any]:
    """Compare the files in the working folder with those of a commit."""
    before, after = _committed_lock(base), _stages(LOCK.read_text("utf-8") if LOCK.is_file() else "")
    return {
        "params": _dvc("params", "diff", base),
        "metrics": _dvc("metrics", "diff", base),
        "data": {"old": _photos(before), "new": _photos(after)},
        "trained": bool(after),
        "stale": _stale(after),
    }


def _dvc(*arguments: str) -> Any:
    done = subprocess.run(["dvc", *arguments, "--json"], capture_output=True, text=True, check=True)  # noqa: S603, S607
    return json.loads(done.stdout or "{}")


def _yaml(text: str) -> Any:
    from ruamel.yaml import YAML

    return YAML(typ="safe").load(text) or {}


def _committed_lock(revision: str) -> Any:
    """Return the stages in a commit's dvc.lock; empty: it has none."""
    command = ["git", "show", f"{revision}:./{LOCK}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return _stages(done.stdout if done.returncode == 0 else "")


def _stages(lock: str) -> Any:
    return _yaml(lock).get("stages", {})


def _photos(lock: Any) -> str:
    outs = lock.get("ingest", {}).get("outs", [])
    return f"{outs[0].get('nfiles', '?')} photos, {outs[0].get('md5', '?')}" if outs else ""


def _stale(lock: Any) -> list[str]:
    """Return the parameters with which the stages were not run."""
    params, stale = _yaml(Path("params.yaml").read_text("utf-8")), []
    for stage in lock.values():
        for key, value in stage.get("params", {}).get("params.yaml", {}).items():
            present = params
            for part in key.split("."):
                present = present.get(part) if isinstance(present, dict) else None
            if present != value:
                stale.append(key)
    return sorted(set(stale))


def render(comparison: Any) -> str:
    """Return the comparison as Markdown, in which every value is shown as code."""
    lines = ["### Parameters, data and metrics, compared with the target branch", ""]
    if not comparison.get("trained"):
        lines += [
            "There is no `dvc.lock`, so there are no results. After `make train`, commit `dvc.lock`, "
            "`params.yaml` and `metrics/`.",
            "",
        ]
    elif stale := comparison.get("stale"):
        lines += [
            f"**The results are not of these parameters**: {', '.join(map(_code, stale[:_MAX_ROWS]))} "
            "changed since. Run `dvc repro`, and commit `dvc.lock` and `metrics/`.",
            "",
        ]
    rows = [
        (name, change.get("old"), change.get("new"), change.get("diff"))
        for kind in ("params", "metrics")
        for file in comparison.get(kind, {}).items()
        for name, change in ((f"{file[0]}: {key}", change) for key, change in file[1].items())
    ]
    data = comparison.get("data", {})
    if data.get("old") != data.get("new"):
        rows.insert(0, ("data", data.get("old"), data.get("new"), None))
    if rows:
        lines += ["| | before | after | difference |", "| --- | --- | --- | --- |"]
        lines += [f"| {' | '.join(map(_code, row))} |" for row in rows[:_MAX_ROWS]]
        lines += [f"... and {len(rows) - _MAX_ROWS} more"] if len(rows) > _MAX_ROWS else []
    else:
        lines.append("Nothing differs.")
    return "\n".join(lines) + "\n"


def _code(value: Any) -> str:
    if value is None or value == "":
        return ""
    text = f"{value:.5g}" if isinstance(value, float) else str(value)
    plain = "".join(
        letter if letter.isprintable() and letter not in "`|\\" else " " for letter in text[:_MAX_TEXT]
    )
    return f"`{plain}`" if plain.strip() else ""


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m scripts.comparison",
        description=__doc__,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=("collect", "render"))
    parser.add_argument("argument", help="the other commit, or the file")
    options = parser.parse_args()
    if options.command == "collect":
        print(json.dumps(collect(options.argument)))
        return
    try:
        with Path(options.argument).open("rb") as file:
            text = render(json.loads(file.read(_MAX_BYTES)))
    except (OSError, ValueError, TypeError, AttributeError, LookupError, RecursionError) as error:
        sys.exit(f"error: {options.argument} is not a comparison ({type(error).__name__})")
    print(text, end="")


if __name__ == "__main__":
    main()
