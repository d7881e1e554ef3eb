"""Show the photos that the service kept (COLLECT_TO), delete one on request, or delete old ones.

STORE is a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX. Nothing else in it is touched.

A person who wants a photo deleted names its request id, which was part of the answer. The id of a whole
request, as in X-Request-ID, deletes all of its photos. Type it where the data set is: reviewed photos are
deleted there too. docs/privacy.md shows how to run --older-than daily.
"""

import argparse
import contextlib
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from ml.cli import note, say, whole_number
from ml.collected.store import Collected
from ml.data import collected, reviewed
from ml.data.locks import locked
from ml.model.errors import PipelineError, one_line
from ml.model.kept_photos import REASONS, Record

EXAMPLE = "python -m ml collected s3://photos/live --older-than 90"
_MAX_DAYS = 36_500


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("store", metavar="STORE", help="where the photos are: the value of COLLECT_TO")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--list", action="store_true", help="print one line per photo, separated by tabs")
    text = "delete the photo of this answer, or all photos of this X-Request-ID"
    group.add_argument("--delete", metavar="REQUEST_ID", help=text)
    group.add_argument(
        "--older-than",
        metavar="DAYS",
        type=whole_number(0, _MAX_DAYS),
        help="delete the photos that were kept for DAYS days or longer",
    )


def main(arguments: argparse.Namespace) -> None:
    """Run the command."""
    store = Collected(arguments.store)
    if arguments.delete is not None:
        _delete(store, arguments.delete)
    elif arguments.older_than is not None:
        _delete_old(store, arguments.older_than)
    elif arguments.list:
        for record in store.records(rejected=_note_rejected):
            say("\t".join(one_line(column, 100) for column in _columns(record)))
    else:
        _summarize(store)


def _note_rejected(path: str, reason: str) -> None:
    note(f"{path}: {reason}")


def _columns(record: Record) -> Iterable[str]:
    label, actual = record.answer["label"], record.actual or ""
    return record.time, record.id, label, actual, ",".join(record.reasons), record.request_id


def _delete(store: Collected, request_id: str) -> None:
    here = collected.PATH.exists() or reviewed.PATH.exists()  # a data set, which an export may be changing
    with locked(collected.PATH) if here else contextlib.nullcontext():
        _delete_everywhere(store, request_id)


def _delete_everywhere(store: Collected, request_id: str) -> None:
    if not request_id:
        raise PipelineError("--delete needs the request id of an answer, or its X-Request-ID")
    reviewed.check_delete([request_id])  # before anything is deleted
    deleted, problem = [], None
    try:
        for record in _of_request(store, request_id):
            store.delete(record)
            say(f"deleted {record.photo_path} and its record")
            deleted.append(record.id)
    except PipelineError as error:  # what was reviewed is deleted all the same
        problem = error
    exported = reviewed.delete(deleted, [request_id])
    for path in exported:
        say(f"deleted {path}: type `dvc add collected`, and commit collected.dvc and collected.csv")
    if problem is not None:
        raise problem
    if not deleted and not exported:
        shown, sent = one_line(request_id, 100), one_line(request_id.rpartition(".")[0], 100)
        hint = f"; --delete {sent} deletes the photos of all attempts of that request" if sent else ""
        raise PipelineError(f"{store.address}: no photo has the request id {shown}{hint}")


def _of_request(store: Collected, request_id: str) -> Iterator[Record]:
    """Yield the records of an answer or of a request, then those of the answer's photo from earlier attempts.

    Whoever sends a photo again with the same X-Request-ID, because the answer was lost on the way, knows only
    the id of the last answer.
    """
    request, copies, others = request_id.rpartition(".")[0], set(), []
    for record in store.records(rejected=_note_rejected):
        whole = record.request_id.rpartition(".")[0]
        if request_id in (record.request_id, whole):
            copies.add(record.sha256)
            yield record
        elif request and request == whole:
            others.append(record)
    yield from (record for record in others if record.sha256 in copies)


def _delete_old(store: Collected, days: int) -> None:
    last = (datetime.now(UTC) - timedelta(days=days)).date().isoformat()
    photos = sum(store.delete_day(day) for day in store.days() if day <= last)
    say(f"{store.address}: {photos:,} photos deleted, of {last} and before")


def _summarize(store: Collected) -> None:
    size, photos, incomplete = 0, 0, 0
    days = store.days()
    for day in days:
        files = store.files(day)
        size += sum(files.values())
        photos += sum(name.endswith(".jpg") for name in files)
        incomplete += sum(name.endswith(".jpg") and f"{name[:-4]}.json" not in files for name in files)
    rejected: list[str] = []
    records = list(store.records(days, lambda path, _: rejected.append(path)))
    when = f" of {days[0]} to {days[-1]}" if days else ""
    say(f"{store.address}: {photos:,} photos{when}, {size / 2**20:,.1f} MB")
    _counts("reasons", [reason for record in records for reason in record.reasons], REASONS)
    _counts("answers", [record.answer["label"] for record in records])
    _counts("models", [record.model["version"] for record in records])
    judged = [record for record in records if record.actual is not None]
    wrong = sum(record.actual != record.answer["label"] for record in judged)
    say(f"feedback: {len(judged):,} photos, on {wrong:,} of which the answer was wrong")
    if rejected or incomplete:
        say(f"not usable: invalid records {len(rejected):,}, photos without a record {incomplete:,}")


def _counts(name: str, values: list[str], order: Iterable[str] = ()) -> None:
    counts = Counter(dict.fromkeys(order, 0)) + Counter(values)
    shown = ", ".join(f"{one_line(value, 100)} {count:,}" for value, count in counts.most_common())
    say(f"{name}: {shown or 'none'}")
