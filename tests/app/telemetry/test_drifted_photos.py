"""Photos of other things, as bright, as wide and as large as the usual ones: which statistics notice them.

The service's own metrics are compared with the training reference as `monitoring/rules` does it.
"""

import io
import random
import re
import zipfile
from collections.abc import Sequence

import numpy as np
from flask.testing import FlaskClient
from PIL import Image, ImageOps

from app.settings import EMBEDDED
from ml.model.image import decode
from ml.model.reference import brightness
from monitoring.dashboards.model import DRIFT
from scripts.common.pictures import encoded
from tests.app.routes.test_predict import send
from tests.helpers.beside import beside

USUAL = ("cats-vs-dogs.zip", "more-kaggle.zip")
"""Half of the photos that the default model was trained on come from each."""
COUNT = 200
OF_THE_PHOTO = ("brightness", "aspect_ratio", "short_side_pixels")
METRICS = {
    **{name: f"photo_{name}" for name in OF_THE_PHOTO},
    "confidence": "prediction_confidence",
    "known": "prediction_known",
}
LABELS = r'_bucket\{(?:le="([^"]+)")(?:,statistic="(\w+)",version="\w+")?\} (\S+)'


def photos(name: str, prefix: str, count: int) -> list[bytes]:
    """Return some photos of a folder in a zip."""
    with zipfile.ZipFile(beside(f"data/{name}")) as archive:
        names = [
            name for name in archive.namelist() if name.startswith(prefix) and name.endswith((".jpg", ".png"))
        ]
        return [archive.read(name) for name in random.Random(7).sample(names, count)]


def as_usual(photo: bytes, usual: bytes) -> bytes:
    """Return a photo with the size, shape and brightness of another one."""
    with Image.open(io.BytesIO(usual)) as other, Image.open(io.BytesIO(photo)) as picture:
        values = np.asarray(ImageOps.fit(picture.convert("RGB"), other.size)) / 255
    wanted, low, high = brightness(decode(usual)), 0.05, 20.0
    for _ in range(12):  # the exponent that makes it as bright
        gamma = (low * high) ** 0.5
        if (values**gamma).mean() > wanted:
            low = gamma
        else:
            high = gamma
    return encoded(Image.fromarray((255 * values**gamma).astype(np.uint8)), quality=95)


def distances(client: FlaskClient, sent: Sequence[bytes]) -> dict[str, float]:
    """Send photos to a new service, and return the distance of each statistic from its reference."""
    for first in range(0, len(sent), 8):
        assert send(client, *sent[first : first + 8]).status_code == 200
    text = client.get("/metrics").text
    counted: dict[str, dict[str, float]] = {}
    for name, metric in {**METRICS, "": "photo_component"}.items():
        for le, statistic, count in re.findall(f"^{metric}{LABELS}$", text, re.MULTILINE):
            counted.setdefault(name or statistic, {})[le] = float(count)
    found: dict[str, float] = {}
    pattern = r'^model_reference_share\{le="([^"]+)",statistic="(\w+)",version="\w+"\} (\S+)$'
    for le, statistic, share in re.findall(pattern, text, re.MULTILINE):
        if statistic == "short_side_pixels" and float(le) > 112:
            continue  # as in the rules
        distance = abs(counted[statistic][le] / counted[statistic]["+Inf"] - float(share))
        found[statistic] = max(found.get(statistic, 0.0), distance)
    assert counted["brightness"]["+Inf"] == len(sent)
    return found


def test_features_notice_what_brightness_shape_and_size_do_not(make_app) -> None:
    usual = [
        photo
        for name in USUAL
        for label in ("cat/", "dog/")
        for photo in photos(name, label, COUNT // 2 // len(USUAL))
    ]
    others = photos("other.zip", "other/", COUNT)
    drifted = [as_usual(photo, other) for photo, other in zip(others, usual, strict=True)]
    before, after = (
        distances(make_app(model_url=EMBEDDED.as_uri()).test_client(), sent) for sent in (usual, drifted)
    )
    print(f"\n{'statistic':18}{'usual':>8}{'other things':>14}")
    for name in before:
        print(f"{name:18}{before[name]:8.2f}{after[name]:14.2f}")
    assert max(before.values()) < DRIFT
    assert max(after[name] for name in OF_THE_PHOTO) < DRIFT
    assert after["known"] > DRIFT
    assert max(after[f"component_{number}"] for number in range(1, 5)) > DRIFT
