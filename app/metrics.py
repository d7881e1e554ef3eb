"""Prometheus metrics: their names, their labels, and nothing else of Prometheus outside this module."""

from collections.abc import Iterable

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.utils import floatToGoString

from app import memory
from app.admission import Admission, Task
from app.engine import Engine
from ml.reference import BOUNDS

_WORK_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_REQUEST_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """One app's metrics, in a registry of their own, so that several apps can live in one process."""

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self) -> None:
        # A time stamp beside each counter and histogram would be noise; no switch for one registry exists.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        self.requests = Counter(
            "http_requests_total", "Requests answered", ["method", "route", "status"], registry=registry
        )
        self.request_duration = Histogram(
            "http_request_duration_seconds",
            "Time from a complete request to its answer",
            ["route"],
            buckets=_REQUEST_S,
            registry=registry,
        )
        self.predictions = Counter("predictions_total", "Photos answered", ["label"], registry=registry)
        self.confidence = Histogram(
            "prediction_confidence",
            "Probability of the likeliest class",
            buckets=BOUNDS["confidence"],
            registry=registry,
        )
        self.brightness = Histogram(
            "photo_brightness",
            "Mean of a photo's channels, 0 black to 1 white",
            buckets=BOUNDS["brightness"],
            registry=registry,
        )
        self.aspect_ratio = Histogram(
            "photo_aspect_ratio",
            "Width of an upright photo by its height",
            buckets=BOUNDS["aspect_ratio"],
            registry=registry,
        )
        self.short_side = Histogram(
            "photo_short_side_pixels",
            "The smaller of a photo's width and height",
            buckets=BOUNDS["short_side_pixels"],
            registry=registry,
        )
        self.inference = Histogram(
            "inference_duration_seconds", "Time in the network, a run", buckets=_WORK_S, registry=registry
        )
        self.preprocess = Histogram(
            "preprocess_duration_seconds",
            "Time from bytes to pixels, a photo",
            buckets=_WORK_S,
            registry=registry,
        )
        self.in_flight = Gauge("predictions_in_flight", "Requests being predicted", registry=registry)
        self.rejected = Counter(
            "predictions_rejected_total", "Requests turned away unpredicted", ["reason"], registry=registry
        )
        self.feedback = Counter(
            "feedback_total", "Answers that users judged", ["predicted", "actual"], registry=registry
        )
        self.judged = Counter(
            "feedback_judged_total",
            "Answers that users judged, by whether they were right",
            ["correct"],
            registry=registry,
        )
        # No Info, which would be there without labels before there is a model: alerts tell by its absence.
        self._model_info = Gauge(
            "model_info",
            "The model that answers",
            ["version", "arch", "engine", "sha256"],
            registry=registry,
        )
        self._reference = Gauge(
            "model_reference_share",
            "Share of photos up to a bound where the model was made",
            ["statistic", "le"],
            registry=registry,
        )
        self._reference_labels = Gauge(
            "model_reference_label_share",
            "Share of a label among the model's answers to its test photos",
            ["label"],
            registry=registry,
        )
        self._figures = Gauge(
            "model_test_figure", "Figures of the model on its test photos", ["figure"], registry=registry
        )
        self._load = Gauge("model_load_seconds", "Time to load the model file", registry=registry)
        self._download = Gauge(
            "model_download_seconds", "Time to download the model file, 0 for a local one", registry=registry
        )
        self.download_failures = Counter(
            "model_download_failures_total", "Attempts to download the model that failed", registry=registry
        )
        self._stale = Gauge(
            "model_stale",
            "1: the model is the copy of an earlier start, for it can not be downloaded",
            registry=registry,
        )
        self._waiting = Gauge("predictions_waiting", "Requests in line for a slot", registry=registry)
        self._slots = Gauge("predictions_slots", "Requests predicted at once, at most", registry=registry)
        self.start = Gauge(
            "service_start_seconds", "From the start of the process to a loaded model", registry=registry
        )
        limit = Gauge(
            "process_memory_limit_bytes",
            "Memory that the process may use; infinite: no limit",
            registry=registry,
        )
        limit.set(memory.limit())
        # A rate needs a series to have been there before: otherwise the first failure would go unseen.
        self.request_duration.labels("/predict")
        for status in (200, 500, 503):
            self.requests.labels("POST", "/predict", status)
        for reason in ("queue_full", "timeout", "draining", "not_ready", "disconnected"):
            self.rejected.labels(reason)
        for correct in ("true", "false"):
            self.judged.labels(correct)

    def watch(self, admission: Admission[Task]) -> None:
        """Report the line of those who wait, as it is at each scrape."""
        self._waiting.set_function(lambda: admission.waiting)
        self._slots.set(admission.slots)

    def model_loaded(
        self,
        engine: Engine,
        labels: Iterable[str],
        load_seconds: float,
        download_seconds: float | None,
        stale: bool = False,
    ) -> None:
        """Say which model answers from now on, and start each label's counter at 0 so that rates work."""
        manifest = engine.manifest
        self._model_info.labels(manifest.version, manifest.arch, engine.name, engine.sha256).set(1)
        self._stale.set(stale)
        self._load.set(load_seconds)
        self._download.set(download_seconds or 0.0)
        for label in labels:
            self.predictions.labels(label)
        for name, value in manifest.metrics.items():
            self._figures.labels(name).set(value)
        for statistic, shares in manifest.reference.items():
            for key, share in shares.items():
                if statistic == "labels":
                    self._reference_labels.labels(key).set(share)
                elif statistic in BOUNDS:
                    # Spelled as the histogram spells it, for queries that join the two.
                    le = floatToGoString(key)  # type: ignore[no-untyped-call]
                    self._reference.labels(statistic, le).set(share)

    def text(self) -> bytes:
        """Return every metric in Prometheus' text format."""
        return generate_latest(self.registry)
