"""A service that keeps photos in a folder."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from ml.collected.store import Collected
from ml.model.kept_photos import Record
from tests.helpers.graphs import KNOWN, telling_graph
from tests.helpers.served import Served, served
from tests.helpers.waiting import HANG_S, until


class Keeping:
    """A running service, and the store that it writes to."""

    def __init__(self, running: Served, address: str) -> None:
        self.running, self.address = running, address
        self.collector = running.service.collector

    def predict(self, photo: bytes, query: str = "?keep=1", **options: Any) -> dict[str, Any]:
        """Return the answer for a photo."""
        import json

        response = self.running.ask("POST", f"/predict{query}", photo, **options)
        assert response.status == 200, response.content  # type: ignore[attr-defined]
        answer: dict[str, Any] = json.loads(response.content)  # type: ignore[attr-defined]
        return answer

    def feedback(self, answer: dict[str, Any], actual: str) -> None:
        """Send feedback on an answer."""
        import json

        document = {"predicted": answer["label"], "actual": actual, "request_id": answer["request_id"]}
        content = json.dumps(document).encode()
        response = self.running.ask("POST", "/feedback", content, Content_Type="application/json")
        assert response.status == 204

    def settle(self) -> None:
        """Wait until everything that was passed on is written or dropped; stops the collector."""
        writer = self.collector._writer
        until(lambda: not writer._queue)
        self.collector.stop()
        if writer._thread:  # `stop` waits only for a moment, which is too short on a busy machine
            writer._thread.join(HANG_S)

    def records(self) -> list[Record]:
        """Return what is in the store."""
        return list(Collected(self.address).records()) if Path(self.address).exists() else []

    def kept(self, reason: str) -> float:
        return self.running.sample("photos_collected_total", reason=reason)

    def dropped(self, reason: str) -> float:
        return self.running.sample("photos_not_collected_total", reason=reason)


KeepingService = Callable[..., contextlib.AbstractContextManager[Keeping]]


@pytest.fixture
def keeping(
    make_model: Callable[..., Path], make_app: Callable[..., Flask], tmp_path: Path
) -> KeepingService:
    """Start a service whose model knows red and blue, and that keeps unknown and unsure photos."""

    @contextlib.contextmanager
    def start(collect_to: str = str(tmp_path / "kept"), **settings: Any) -> Iterator[Keeping]:
        model = make_model("telling.pt", graph=telling_graph(), known=KNOWN)
        settings = {"model_url": model.as_uri(), "collect_random": 0.0, "collect_unsure": 0.97} | settings
        with served(make_app, collect_to=collect_to, **settings) as running:
            keeping = Keeping(running, collect_to)
            try:
                yield keeping
            finally:
                keeping.collector.stop()

    return start
