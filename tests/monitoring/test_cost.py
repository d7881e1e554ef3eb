"""Cost of the metrics: the size of a scrape after many predictions, and the share of a prediction's time."""

import statistics
import time
import urllib.request

from app.inference.classify import _count, classify
from app.inference.decoding import Decoder
from app.inference.loading import load
from app.settings import EMBEDDED, Settings
from app.telemetry.metrics import Metrics
from ml.model.image import read
from ml.model.reference import BOUNDS, COMPONENTS, describe
from scripts.stress.client import form
from tests.conftest import BLUE, RED, coloured, encode
from tests.helpers.paths import ROOT
from tests.helpers.service import running
from tests.helpers.waiting import HANG_S

CAT = (ROOT / "tests" / "photos" / "cat.jpg").read_bytes()
PREDICTIONS, AT_ONCE = 10_000, 100


def test_a_scrape_after_ten_thousand_predictions(make_model):
    """The response has at most 64 KB; on an idle machine a scrape takes 3 to 6 ms."""
    reference = describe(("red", "blue"), {name: [0.5] for name in BOUNDS}, [0.9], [0])
    model = make_model(reference=reference)
    photos = [encode(coloured(colour, seed=seed)) for colour in (RED, BLUE) for seed in range(AT_ONCE // 2)]
    body, kind = form(photos)
    with running(LOG_LEVEL="error", MODEL_URL=model.as_uri()) as service:
        service.wait()
        url = f"http://127.0.0.1:{service.port}"
        for _ in range(PREDICTIONS // AT_ONCE):
            request = urllib.request.Request(f"{url}/predict", body, {"Content-Type": kind})
            urllib.request.urlopen(request, timeout=HANG_S).close()
        for path in ("/", "/docs", "/openapi.json", "/health", "/ready", "/model"):
            urllib.request.urlopen(url + path, timeout=HANG_S).close()
        times = []
        for _ in range(60):
            started = time.perf_counter()
            with urllib.request.urlopen(f"{url}/metrics", timeout=HANG_S) as answer:
                text = answer.read()
            times.append(time.perf_counter() - started)
    assert b"\nprediction_confidence_count 10000.0\n" in text
    print(f"{len(text)} bytes, {1000 * statistics.median(times):.1f} ms, {1000 * min(times):.1f} at least")
    assert len(text) < 64 * 1024


def test_counting_takes_less_than_a_fiftieth_of_a_prediction():
    """Both are measured as CPU time in one run; the minimum of several rounds counts."""
    engine, metrics = load(EMBEDDED, "onnx", 1), Metrics()
    metrics.model_loaded(engine.manifest, engine.name, engine.sha256, engine.manifest.classes)
    photo = read(CAT, engine.manifest.image_size, engine.manifest.resize)
    decoder = Decoder(Settings(), metrics)
    (prediction,) = classify(engine, decoder, [CAT], Settings(), metrics)
    components = [0.5] * COMPONENTS

    def count() -> None:  # everything that is counted for a request with one photo
        with metrics.in_flight.track_inprogress():
            metrics.preprocess.observe(0.001)
            metrics.inference.observe(0.004)
            _count(photo, prediction, metrics, (photo.width, photo.height))
            metrics.count_components(components)
        metrics.requests.labels("POST", "/predict", 200).inc()
        metrics.request_duration.labels("/predict").observe(0.005)

    def seconds(work, times: int) -> float:  # type: ignore[no-untyped-def]
        rounds = []
        for _ in range(7):
            started = time.thread_time()
            for _ in range(times):
                work()
            rounds.append((time.thread_time() - started) / times)
        return min(rounds)

    counting = seconds(count, 300)
    whole = seconds(lambda: classify(engine, decoder, [CAT], Settings(), metrics), 20)
    print(f"{counting * 1e6:.0f} of {whole * 1e6:.0f} us: {counting / whole:.2%}")
    assert counting < whole / 50
