"""Find photos whose label may be wrong, and serve a page on which you keep, relabel or drop each.

Wrong labels are found by confident learning: a classifier on the features of a frozen pretrained network
predicts each prepared photo without having learned from it. Photos that look like none of the classes are
shown too, and equal photos with different labels.

The page is for this machine only. Each decision is written to label_decisions.csv at once. `make train` obeys
the file: it trains with the corrected labels and without the dropped photos. Later audits show only other
photos.
"""

import argparse
import hashlib
import json
from collections.abc import Mapping
from itertools import islice
from pathlib import Path

from ml import params as parameters
from ml.audit import contradictions
from ml.audit.items import AuditItems
from ml.audit.suspects import KINDS, Suspects
from ml.cli import port, say, whole_number
from ml.data import decisions
from ml.data.dataset import Dataset
from ml.data.ingest import RAW
from ml.model.allocator import keep_freed_memory
from ml.model.errors import PipelineError
from ml.paths import DROPPED, PREPARE_REPORT
from ml.review.server import PORT, serve

EXAMPLE = "python -m ml audit"
SUSPECTS = Path("reports/audit/suspects.json")
_MOST = 200
_METHOD = 2  # another number when the code finds other suspects or shows other probabilities


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--port", type=port, default=PORT, help=f"port of the page (default: {PORT}; 0: any free one)"
    )
    parser.add_argument(
        "--most",
        type=whole_number(1, 1_000_000),
        default=_MOST,
        help=f"at most this many photos of each kind (default: {_MOST})",
    )
    parser.add_argument("--no-page", action="store_true", help=f"only write {SUSPECTS}")


def main(arguments: argparse.Namespace) -> None:
    """Find the suspects, unless that was done before, and serve the page until Ctrl-C."""
    keep_freed_memory()
    suspects = run(parameters.load().train.first_look, arguments.most)
    kinds = {kind: sum(suspect.kind == kind for suspect in suspects.suspects) for kind in KINDS}
    say(
        f"{SUSPECTS}: of {suspects.photos:,} photos, {kinds['label']:,} have a label that the classifier "
        f"clearly contradicts and {kinds['disagreement']:,} one that it doubts, {kinds['outlier']:,} look "
        f"least like the classes, {kinds['contradiction']:,} have several labels. Look at each: the "
        "classifier makes mistakes too"
    )
    if not arguments.no_page:
        serve(AuditItems(suspects, RAW, decisions.PATH), arguments.port)


def run(arch: str, most: int, out: Path = SUSPECTS) -> Suspects:
    """Find the suspects among the prepared photos and write them to `out`.

    If `out` was computed from the same photos and something in it is undecided, it is read instead.

    Raises:
        PipelineError: there are no prepared photos, or the decisions cannot be read.
    """
    data = Dataset.load()
    dropped = PREPARE_REPORT / DROPPED
    content: list[object] = [_METHOD, arch, most, data.image_size, data.resize]
    content += [data.digest(split) for split in ("train", "val", "test")]
    content.append(dropped.read_text("utf-8") if dropped.exists() else "")
    key = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    made = decisions.load()
    if (earlier := Suspects.load(out)) and earlier.key == key and not _all_decided(earlier, made):
        return earlier
    from ml.audit.find import body, find  # imports torch, which the page does not need

    groups = contradictions.read(dropped, RAW, made, data.image_size, data.resize)
    found = find(data, body(arch, len(data.classes)), list(islice(groups, most)), frozenset(made), most)
    suspects = Suspects(key, list(data.classes), len(data.labels), found)
    try:
        suspects.save(out)
    except OSError as error:
        raise PipelineError(f"{out} cannot be written: {error.strerror}") from error
    return suspects


def _all_decided(suspects: Suspects, made: Mapping[str, decisions.LabelDecision]) -> bool:
    """Return whether a person has decided about all of at least one suspect, so that others are next."""
    hashes = [sha256 for suspect in suspects.suspects for sha256 in suspect.hashes]
    return bool(hashes) and all(sha256 in made for sha256 in hashes)
