"""Write reports/report.html: all that the pipeline found, in one page that needs nothing but itself.

`make report`, or `python -m ml.report`. It shows photos of the data set, so it is for those who have that.
"""

from pathlib import Path

from ml import params as parameters
from ml import stage_reports
from ml.cli import exit_cleanly, say
from ml.errors import PipelineError
from ml.params import Params
from ml.report import making, model
from ml.report.page import render, write

OUT = Path("reports/report.html")
SECTIONS = (
    model.figures,
    making.promotion,
    model.calibration,
    model.strangers,
    model.stability,
    model.slices,
    making.mistakes,
    making.photos,
    making.training,
)


def run(params: Params, out: Path = OUT) -> Path:
    """Write the page; what a stage has not left yet is named in it.

    Raises:
        PipelineError: no stage has run, or a report is broken.
    """
    left = stage_reports.load(params.model_dump(mode="json"))
    if not any((left.prepared, left.history, left.measured, left.packaged)):
        raise PipelineError("there is nothing to report yet: run `dvc repro`")
    try:
        sections = [make(left) for make in SECTIONS]
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise PipelineError(f"a report is of another version ({error!r:.80}): run `dvc repro`") from error
    classes = list(left.prepared.get("kept", {}))
    named = ", ".join(classes[:8]) + (f" and {len(classes) - 8} more" if len(classes) > 8 else "")
    version = left.packaged.get("version", "not packaged yet")
    text = render(
        Path(__file__).with_name("page.html"),
        sections,
        title=f"{params.tracking.model}, model {version}",
        subtitle=f"{params.train.arch} at {params.prepare.image_size} pixels; classes: {named or 'none yet'}",
    )
    write(text, out)
    return out


def main() -> None:
    """Write the page and say where it is."""
    out = run(parameters.load())
    say(f"{out}: {out.stat().st_size:,} bytes; it shows photos of the data set, so keep it to yourself")


if __name__ == "__main__":
    with exit_cleanly():
        main()
