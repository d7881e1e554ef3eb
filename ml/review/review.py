"""Look at the photos that the service collected, on a page, and decide what each of them shows.

SOURCE is what COLLECT_TO names: a folder, or a URL such as s3://BUCKET/PREFIX. The page first shows the
photos that a model learns most from: those whose feedback contradicts the answer, then uncertain answers and
photos unlike the training photos. Near-duplicates are shown together. One item in four comes from the random
sample, which measures the accuracy of the service.

Several people can use the page at once. Each decision is appended to collected_decisions.csv at once.
`--export` puts the decided photos into the data set, and says which commands remain. `--figures` needs no
SOURCE.
"""

import argparse
import ipaddress
import json
from itertools import islice

from ml import params as parameters
from ml.cli import note, port, say
from ml.collected.store import Collected
from ml.data import collected, reviewed
from ml.local_model import load_source
from ml.model.errors import PipelineError, one_line
from ml.review import figures
from ml.review.collected_items import CollectedItems
from ml.review.export import COMMANDS, export, pending
from ml.review.server import HOST, PORT, serve

MAX_RECORDS = 200_000
"""Photos of one store: their records take 500 MB of memory."""

EXAMPLE = "python -m ml review s3://my-bucket/collected"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("source", nargs="?", metavar="SOURCE", help="where the collected photos are")
    parser.add_argument(
        "--model",
        metavar="FILE|URL",
        help="a model.pt, which has the classes and shows the evidence; default: models/model.pt if it "
        "exists, else the model embedded in the service",
    )
    parser.add_argument(
        "--port", type=port, default=PORT, help=f"port of the page (default: {PORT}; 0: any free one)"
    )
    parser.add_argument(
        "--host",
        type=_address,
        default=HOST,
        help=f"address to listen on (default: {HOST}); whoever has the printed URL can use the page, and "
        "nothing encrypts the connection",
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--export", action="store_true", help=f"put the decided photos into {collected.FOLDER}/"
    )
    what.add_argument(
        "--figures",
        action="store_true",
        help="print the number of decided photos, of those not exported yet (`new`), and of those in the "
        "data set (`exported`), and the accuracy on the random sample, as JSON",
    )


def _note_rejected(path: str, reason: str) -> None:
    note(f"left out: {one_line(path)}: {one_line(reason)}")


def _address(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def main(arguments: argparse.Namespace) -> None:
    """Serve the page until Ctrl-C, or export, or print the figures."""
    if arguments.figures:
        say(json.dumps(numbers(), indent=2))
        return
    if not arguments.source:
        raise PipelineError("SOURCE is missing: name the folder or URL that COLLECT_TO names")
    store = Collected(arguments.source)
    records = list(islice(store.records(rejected=_note_rejected), MAX_RECORDS + 1))
    if len(records) > MAX_RECORDS:
        raise PipelineError(
            f"{arguments.source}: more than {MAX_RECORDS:,} photos, the most that one review can show: "
            f"delete old ones with `python -m ml collected {arguments.source} --older-than DAYS`"
        )
    if arguments.export:
        result = export(store, {record.id: record for record in records}, reviewed.load(undone=True))
        added = ", ".join(
            f"{label or 'none of the classes'} {count:,}" for label, count in result.added.items()
        )
        say(
            f"{collected.PATH}: {result.photos:,} photos; added: {added or 'none'}; class changed: "
            f"{result.moved:,}; removed: {result.removed:,}; not in the store any more: {result.missing:,}"
        )
        say(f"Now type:\n{COMMANDS}")
        return
    params = parameters.load()
    model = load_source(arguments.model, evidence=True)
    items = CollectedItems(
        store, records, model, params.prepare.near_duplicate_bits, params.evaluate.confidence
    )
    if items.unusable:
        note(f"left out: {items.unusable:,} photos that are not what their record describes")
    serve(items, arguments.port, arguments.host)


def numbers() -> dict[str, object]:
    """Return what `--figures` prints.

    Raises:
        PipelineError: a file of decisions, collected.csv or params.yaml cannot be read.
    """
    entries, confidence = reviewed.load(), parameters.load().evaluate.confidence
    listed = {photo.id: photo for photo in collected.load()}
    counts = {"decided": len(entries), "new": len(pending(entries, listed)), "exported": len(listed)}
    return counts | figures.as_numbers(entries.values(), confidence)
