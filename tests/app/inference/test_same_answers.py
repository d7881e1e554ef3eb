"""The service and `python -m ml predict` give the same answers for the same model."""

import json
import subprocess
import sys

import pytest

from tests.app.routes.test_predict import send
from tests.conftest import BLUE, RED, coloured, encode
from tests.helpers.graphs import GREEN, KNOWN, telling_graph
from tests.helpers.paths import ROOT


@pytest.mark.parametrize("score", ["score", "beyond", "root", ""])
@pytest.mark.parametrize("classes", [("red", "blue"), ("red", "unknown")])
def test_service_and_command_line_answer_alike(make_model, make_app, tmp_path, score, classes):
    """Also if the score of the photo is not a number ("root" of blue) or beyond 0 and 1 ("beyond")."""
    model = make_model(graph=telling_graph(known=score), known=KNOWN, classes=list(classes))
    client = make_app(model_url=model.as_uri()).test_client()
    photos = []
    for number, colour in enumerate((RED, BLUE, GREEN, (140, 100, 100))):
        photos.append(tmp_path / f"{number}.png")
        photos[-1].write_bytes(encode(coloured(colour), "PNG"))
    command = [sys.executable, "-m", "ml", "predict", "--format", "json", "--model", str(model)]
    done = subprocess.run([*command, *map(str, photos)], capture_output=True, text=True, cwd=ROOT, check=True)
    for photo, row in zip(photos, json.loads(done.stdout), strict=True):
        answer = send(client, photo.read_bytes()).get_json()
        assert {k: v for k, v in row.items() if k != "path"} == {
            k: answer[k] for k in ("label", "probabilities", "known") if k in answer
        }
