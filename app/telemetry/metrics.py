"""Prometheus metrics: their names, labels and text format.

A new metric is an attribute of `Metrics`, documented in docs/monitoring.md.
"""

from collections.abc import Callable, Iterable

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

from app import host
from ml.model.manifest import Manifest
from ml.model.reference import BOUNDS

_WORK_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_REQUEST_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The metrics of one app, in a registry of their own, so that one process can contain several apps."""

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self) -> None:
        # The creation time of each counter and histogram would be noise. This can't be set per registry.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        GCCollector(registry=registry)
        self.requests = Counter(
            "http_requests_total", "HTTP requests answered", ["method", "route", "status"], registry=registry
        )
        self.request_duration = Histogram(
            "http_request_duration_seconds",
            "Time from a complete request to its response",
            ["route"],
            buckets=_REQUEST_S,
            registry=registry,
        )
        self.predictions = Counter("predictions_total", "Photos predicted", ["label"], registry=registry)
        self.confidence = Histogram(
            "prediction_confidence",
            "Probability of the most likely class",
            buckets=BOUNDS["confidence"],
            registry=registry,
        )
        self.brightness = Histogram(
            "photo_brightness",
            "Mean of a photo's pixels, from 0 (black) to 1 (white)",
            buckets=BOUNDS["brightness"],
            registry=registry,
        )
        self.aspect_ratio = Histogram(
            "photo_aspect_ratio",
            "Width of a photo divided by its height, after EXIF rotation",
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
            "inference_duration_seconds", "Time per run of the network", buckets=_WORK_S, registry=registry
        )
        self.preprocess = Histogram(
            "preprocess_duration_seconds",
            "Time per photo to decode and resize it",
            buckets=_WORK_S,
            registry=registry,
        )
        self.in_flight = Gauge(
            "predictions_in_flight", "Requests that workers are predicting", registry=registry
        )
        self.rejected = Counter(
            "predictions_rejected_total", "Prediction requests rejected", ["reason"], registry=registry
        )
        self.feedback = Counter(
            "feedback_total",
            "Predictions that users gave feedback on",
            ["predicted", "actual"],
            registry=registry,
        )
        self.judged = Counter(
            "feedback_judged_total",
            "Predictions that users gave feedback on, by whether they were correct",
            ["correct"],
            registry=registry,
        )
        # Not an Info: that exists, without labels, before a model is loaded. Alerts rely on the absence.
        self._model_info = Gauge(
            "model_info",
            "The loaded model",
            ["version", "arch", "engine", "sha256"],
            registry=registry,
        )
        self._reference = Gauge(
            "model_reference_share",
            "Share of the training reference photos up to a bound",
            ["statistic", "le"],
            registry=registry,
        )
        self._reference_labels = Gauge(
            "model_reference_label_share",
            "Share of a label among the predictions for the test photos",
            ["label"],
            registry=registry,
        )
        self._figures = Gauge("model_test_figure", "Test metrics of the model", ["figure"], registry=registry)
        self._load = Gauge("model_load_seconds", "Time to load the model file", registry=registry)
        self._download = Gauge(
            "model_download_seconds", "Time to download the model file; 0 for a local file", registry=registry
        )
        self.download_failures = Counter(
            "model_download_failures_total", "Failed attempts to download the model", registry=registry
        )
        self._stale = Gauge(
            "model_stale",
            "1 if the model is the copy from an earlier start because the download failed",
            registry=registry,
        )
        self._waiting = Gauge("predictions_waiting", "Requests in the queue", registry=registry)
        self._workers = Gauge(
            "predictions_slots", "Workers: requests that are predicted in parallel", registry=registry
        )
        self.start = Gauge(
            "service_start_seconds", "Time from the start of the process to a loaded model", registry=registry
        )
        limit = Gauge(
            "process_memory_limit_bytes",
            "Memory that the process may use; infinite if there is no limit",
            registry=registry,
        )
        limit.set(host.memory_limit())
        # A rate needs a series that already exists, or the first failure would be missed.
        self.request_duration.labels("/predict")
        for status in (200, 500, 503):
            self.requests.labels("POST", "/predict", status)
        for reason in ("queue_full", "timeout", "draining", "not_ready", "disconnected"):
            self.rejected.labels(reason)
        for correct in ("true", "false"):
            self.judged.labels(correct)

    def watch_queue(self, workers: int, waiting: Callable[[], int]) -> None:
        """Report the number of workers, and the length of the queue as it is at each scrape."""
        self._workers.set(workers)
        self._waiting.set_function(waiting)

    def model_loaded(
        self,
        manifest: Manifest,
        engine: str,
        sha256: str,
        labels: Iterable[str],
        load_seconds: float,
        download_seconds: float | None = None,
        stale: bool = False,
    ) -> None:
        """Report the loaded model, and start the counter of each label at 0 so that rates work.

        Args:
            manifest: what the model file says about itself.
            engine: name of the engine that runs it.
            sha256: SHA-256 of the model file.
            labels: every label that a photo can get.
            load_seconds: how long loading took.
            download_seconds: how long the download took; None: there was none.
            stale: whether the file is a copy from an earlier start because the download failed.
        """
        self._model_info.labels(manifest.version, manifest.arch, engine, sha256).set(1)
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
                    # Written as the histogram writes it, for queries that join the two.
                    le = floatToGoString(key)  # type: ignore[no-untyped-call]
                    self._reference.labels(statistic, le).set(share)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)
