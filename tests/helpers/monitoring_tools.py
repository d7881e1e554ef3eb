"""Questions to Prometheus and Alertmanager."""

import contextlib
import json
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from tests.helpers.waiting import HANG_S


def ask(url: str, **parameters: str) -> Any:
    query = f"?{urllib.parse.urlencode(parameters)}" if parameters else ""
    try:
        with urllib.request.urlopen(url + query, timeout=HANG_S) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        with error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from None


def query(url: str, expression: str) -> list[dict[str, Any]]:
    """Series that Prometheus answers with now: each with `metric`, its labels, and `value`, time and text."""
    result: list[dict[str, Any]] = ask(f"{url}/api/v1/query", query=expression)["data"]["result"]
    return result


def ready(url: str) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/-/ready", timeout=HANG_S) as answer:
        return bool(answer.status == 200)
    return False
