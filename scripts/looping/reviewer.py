"""Somebody who knows what the collected photos show, and reviews them through the page's own API."""

import json
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import requests

_SESSION = "rehearsal"
_TIMEOUT_S = 60


class ReviewError(Exception):
    """The page does not start, or rejects a decision; the message is for the user."""


Show = Callable[[str, Mapping[str, str]], None]
"""Takes the URL of the page, and the label of each photo by its id."""


def review(project: Path, store: Path, labels: Mapping[str, str], env: Mapping[str, str], show: Show) -> int:
    """Decide about every collected photo; return the number of decisions.

    Args:
        project: the repository, where the decisions are written.
        store: folder with the collected photos.
        labels: what the photo of each request shows, by the `request_id` of its answer.
        env: environment of the command.
        show: called with the page before the first decision; it may decide, too.

    Raises:
        ReviewError: it fails.
    """
    records = [json.loads(path.read_text("utf-8")) for path in store.glob("*/*.json")]
    actual = {record["id"]: labels[record["request_id"]] for record in records}
    command = [sys.executable, "-m", "ml", "review", str(store), "--port", "0"]
    with subprocess.Popen(  # noqa: S603
        command, cwd=project, env=dict(env), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        try:
            url = _address(process)
            show(url, actual)
            return _decide(url, actual)
        except (requests.RequestException, KeyError) as error:
            raise ReviewError(f"the review page: {error}") from error
        finally:
            process.terminate()


def _address(process: "subprocess.Popen[str]") -> str:
    said = []
    for line in process.stderr or ():
        if line.startswith("http://"):
            return line.split()[0]
        said.append(line)
    raise ReviewError(f"the review page does not start: {''.join(said)}")


def _decide(url: str, actual: Mapping[str, str]) -> int:
    with requests.Session() as session:
        while True:
            query = {"session": _SESSION}
            answer = session.get(f"{url}next", params=query, timeout=_TIMEOUT_S).json()
            if not (item := answer["item"]):
                return int(answer["progress"]["decided"])
            label = actual[item["photos"][0]["id"]]
            body = {"session": _SESSION, "item": item["id"], "action": "label", "label": label}
            session.post(f"{url}decisions", json=body, timeout=_TIMEOUT_S).raise_for_status()
