"""Which photos are kept, with whose consent, and what is written, through the real server and a folder."""

import base64
import hashlib
import io
import json
import random
import re
from ipaddress import ip_network
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.collecting.collector import Collector
from app.inference.classify import Prediction
from app.inference.decoding import Decoder
from app.settings import Settings
from app.telemetry.metrics import Metrics
from ml.collected.store import Collected
from scripts.common.pictures import encoded
from tests.app.collecting.conftest import KeepingService
from tests.conftest import RED, coloured, encode
from tests.helpers.graphs import GREEN
from tests.helpers.waiting import until

SURE, UNKNOWN = (encode(coloured(colour)) for colour in (RED, GREEN))
UNSURE = encode(coloured((140, 70, 80)))  # known, and red to 95 %
FORM = "multipart/form-data; boundary=x"


def form(*photos: bytes, keep: str) -> bytes:
    parts = [b'name="file"; filename="a.jpg"\r\n\r\n' + photo for photo in photos]
    parts.append(b'name="keep"\r\n\r\n' + keep.encode())
    head = b"--x\r\nContent-Disposition: form-data; "
    return b"".join(head + part + b"\r\n" for part in parts) + b"--x--\r\n"


def test_every_count_is_there_before_the_first_photo(keeping: KeepingService) -> None:
    """An alert on a rate would miss the first event of a new series."""
    with keeping() as service:
        text = service.running.ask("GET", "/metrics").content.decode()
    for reason in ("unknown", "unsure", "random", "contradicted"):
        assert f'\nphotos_collected_total{{reason="{reason}"}} 0.0' in text
    limits = ("photos_per_day", "mb_per_day", "photos_per_client")
    for reason in (*limits, "queue_full", "store", "unusable", "stopping"):
        assert f'\nphotos_not_collected_total{{reason="{reason}"}} 0.0' in text


def test_a_kept_photo_and_its_record(keeping: KeepingService) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "my home"
    photo = encode(coloured(GREEN, 1600, 1200), exif=exif)
    with keeping() as service:
        answer = service.predict(photo, X_Request_ID="mine", User_Agent="Agent")
        service.settle()
        model = service.running.service.engine
        (record,) = service.records()
    folder = Path(service.address)
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.j*"))
    assert files == [f"{record.day}/{record.id}.jpg", f"{record.day}/{record.id}.json"]
    content, document = (folder / files[0]).read_bytes(), json.loads((folder / files[1]).read_bytes())
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", document.pop("time"))
    assert re.fullmatch("[0-9a-f]{32}", document.pop("id"))
    assert document == {
        "format": 1,
        "request_id": answer["request_id"],
        "reasons": ["unknown"],
        "random_share": 0.0,
        "answer": {name: answer[name] for name in ("label", "probabilities", "known")},
        "model": {"version": "test-1", "sha256": model.sha256},
        "actual": None,
        "width": 768,
        "height": 1024,
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    image = Image.open(io.BytesIO(content))
    assert (image.format, image.size) == ("JPEG", (768, 1024))
    assert b"my home" not in content
    assert not image.getexif()
    assert Collected(service.address).photo(record) == content
    assert (service.kept("unknown"), service.kept("unsure")) == (1, 0)


def test_only_unknown_unsure_and_drawn_photos_are_kept(keeping: KeepingService) -> None:
    with keeping() as service:
        for photo in (SURE, UNSURE, UNKNOWN):
            service.predict(photo)
        service.settle()
    assert sorted(record.reasons for record in service.records()) == [("unknown",), ("unsure",)]
    with keeping(collect_random=1.0) as service:
        service.predict(UNSURE)
        service.settle()
    assert sorted(record.reasons for record in service.records())[-1] == ("unsure", "random")


def test_without_consent_nothing_is_written(keeping: KeepingService) -> None:
    with keeping() as service:
        answers = [service.predict(UNKNOWN, query) for query in ("", "?keep=0")]
        service.predict(form(UNKNOWN, keep="0"), "", Content_Type=FORM)
        service.predict(form(UNKNOWN, keep="1"), "?keep=0", Content_Type=FORM)
        for answer in answers:
            service.feedback(answer, "red")
        infer = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [UNKNOWN.hex()]}
        service.running.ask("POST", "/v2/models/cats-vs-dogs/infer", json.dumps({"inputs": [infer]}).encode())
        service.settle()
        assert service.records() == []
        assert not service.collector._awaiting._candidates


def test_a_form_can_say_that_its_photos_may_be_kept(keeping: KeepingService) -> None:
    with keeping() as service:
        predictions = service.predict(form(UNKNOWN, SURE, UNSURE, keep="1"), "", Content_Type=FORM)
        service.settle()
    ids = {record.request_id for record in service.records()}
    assert ids == {predictions["predictions"][number]["request_id"] for number in (0, 2)}


def test_always(keeping: KeepingService) -> None:
    with keeping(collect_consent="always") as service:
        kept = service.predict(UNKNOWN, "")
        service.predict(UNKNOWN, "?keep=0")
        service.settle()
    assert [record.request_id for record in service.records()] == [kept["request_id"]]


def test_a_document_can_say_whether_its_photos_may_be_kept(keeping: KeepingService) -> None:
    image = base64.b64encode(UNKNOWN).decode()
    with keeping(collect_consent="always") as service:
        ids = []
        for keep in (0, False, 1, None):
            body = json.dumps({"image": image, "keep": keep}).encode()
            ids.append(service.predict(body, "", Content_Type="application/json")["request_id"])
        service.settle()
        assert {record.request_id for record in service.records()} == set(ids[2:])
        body = json.dumps({"image": image, "keep": "no"}).encode()
        refused = service.running.ask("POST", "/predict", body, Content_Type="application/json")
    assert (refused.status, b"'keep' must be 0 or 1" in refused.content) == (400, True)


@pytest.mark.parametrize("keep", ["yes", "", "01"])
def test_other_values_are_refused(keeping: KeepingService, keep: str) -> None:
    with keeping() as service:
        assert service.running.ask("POST", f"/predict?keep={keep}", UNKNOWN).status == 400
        body = form(UNKNOWN, keep=keep)
        assert service.running.ask("POST", "/predict", body, Content_Type=FORM).status == 400


def test_without_a_store_keep_has_no_effect(keeping: KeepingService) -> None:
    with keeping(collect_to=None) as service:
        answer = service.predict(UNKNOWN)
        service.feedback(answer, "red")
        text = service.running.ask("GET", "/metrics").content.decode()  # type: ignore[attr-defined]
    assert "photos_collected_total{" not in text


def test_feedback_that_contradicts_keeps_the_photo(keeping: KeepingService) -> None:
    with keeping() as service:
        wrong, right, repeated = (service.predict(SURE) for _ in range(3))
        service.feedback(wrong, "blue")
        service.feedback(right, "red")
        service.feedback(repeated, "red")
        service.feedback(repeated, "blue")  # not counted again
        service.settle()
        assert service.kept("contradicted") == 1
    (record,) = service.records()
    assert (record.request_id, record.actual, record.reasons) == (
        wrong["request_id"],
        "blue",
        ("contradicted",),
    )


def test_feedback_on_a_kept_photo_is_added_to_its_record(keeping: KeepingService) -> None:
    with keeping() as service:
        wrong, right = service.predict(UNSURE), service.predict(UNSURE)
        service.feedback(wrong, "unknown")
        service.feedback(right, "red")
        service.settle()
        assert (service.kept("unsure"), service.kept("contradicted")) == (2, 1)
    records = {record.request_id: record for record in service.records()}
    assert records[wrong["request_id"]].actual == "unknown"
    assert records[wrong["request_id"]].reasons == ("unsure", "contradicted")
    assert records[right["request_id"]].actual == "red"
    assert records[right["request_id"]].reasons == ("unsure",)


def test_feedback_does_not_bring_back_what_was_deleted(keeping: KeepingService) -> None:
    with keeping() as service:
        answer = service.predict(UNKNOWN)
        until(service.records)
        store = Collected(service.address)
        store.delete(service.records()[0])
        service.feedback(answer, "red")
        service.settle()
    assert not list(Path(service.address).rglob("*.j*"))


def test_ids_of_clients_are_no_file_names(keeping: KeepingService) -> None:
    with keeping() as service:
        for request_id in ("..", "../../x", "a/b", "." * 64, "x" * 65, "%2e%2e"):
            service.predict(UNKNOWN, X_Request_ID=request_id)
        service.settle()
        assert len(service.records()) == 6  # all of them can be read, and so deleted
    folder = Path(service.address)
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*.j*")]
    assert len(names) == 12
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d/[0-9a-f]{32}\.(jpg|json)", name) for name in names)
    assert {path.name for path in folder.parent.iterdir()} == {"kept", "telling.pt", "model.pt"}


def test_each_client_has_a_limit(keeping: KeepingService) -> None:
    with keeping(collect_photos_per_client=2) as service:
        for source in ("127.0.0.2", "127.0.0.3"):
            for _ in range(4):
                service.predict(UNKNOWN, source=source)
        service.settle()
        assert (service.kept("unknown"), service.dropped("photos_per_client")) == (4, 4)
    assert len(service.records()) == 4


def test_behind_a_proxy_its_clients_count(keeping: KeepingService) -> None:
    trusted = (ip_network("127.0.0.0/8"),)
    with keeping(collect_photos_per_client=1, trusted_proxies=trusted) as service:
        for client in (
            "192.0.2.1",
            "192.0.2.1",
            "192.0.2.2",
            "2001:db8::1",
            "2001:db8::2",
            "2001:db8:0:1::1",
        ):
            service.predict(UNKNOWN, X_Forwarded_For=client)
        service.settle()
        assert (service.kept("unknown"), service.dropped("photos_per_client")) == (4, 2)


def test_the_day_has_limits(keeping: KeepingService) -> None:
    with keeping(collect_photos_per_day=3, collect_random=1e-9) as service:
        for _ in range(5):
            service.predict(UNKNOWN)
        service.settle()
        assert (service.kept("unknown"), service.dropped("photos_per_day")) == (2, 3)  # half, rounded up
    noise = encode(np.random.default_rng(0).integers(0, 255, (1024, 1024, 3), np.uint8))
    with keeping(collect_mb_per_day=1) as service:
        for _ in range(3):
            service.predict(noise)
        service.settle()
        assert (service.kept("unknown"), service.dropped("mb_per_day")) == (1, 2)


def test_a_photo_that_can_not_be_copied_is_dropped(keeping: KeepingService) -> None:
    costly = encoded(Image.new("RGBA", (3000, 3000), GREEN), "PNG")  # good enough for an answer
    with keeping() as service:
        service.predict(costly)
        service.settle()
        assert service.dropped("unusable") == 1
    assert service.records() == []


def test_the_random_share_depends_on_nothing_else() -> None:
    settings = Settings(collect_to="nowhere", collect_random=0.3)
    chance = random.Random(1).random
    collector = Collector(settings, Metrics(), Decoder(settings, Metrics()), lambda: False, chance)
    for label, probability in (("red", 0.99), ("red", 0.51), ("unknown", 0.9)):
        prediction = Prediction(label, {"red": probability, "blue": 1 - probability})
        drawn = sum("random" in collector._reasons(prediction) for _ in range(10_000))
        assert 2_750 < drawn < 3_250  # 5 standard deviations are 230
