"""Prometheus metrics: their names, their labels, and nothing else of Prometheus outside this module."""

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

from app.engine import Engine

_WORK_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_REQUEST_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_CONFIDENCE = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999, 1.0)


class Metrics:
    """One app's metrics, in a registry of their own, so that several apps can live in one process."""

    content_type = "text/plain; version=0.0.4; charset=utf-8"

    def __init__(self) -> None:
        # A time stamp beside each counter and histogram would be noise; no switch for one registry exists.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = registry = CollectorRegistry()
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
            "Probability of the label that was answered",
            buckets=_CONFIDENCE,
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
        self._model_info = Info("model", "The model that answers", registry=registry)
        self._load = Gauge("model_load_seconds", "Time to load the model file", registry=registry)
        self._download = Gauge(
            "model_download_seconds", "Time to download the model file, 0 for a local one", registry=registry
        )

    def model_loaded(self, engine: Engine, load_seconds: float, download_seconds: float | None) -> None:
        """Say which model answers from now on, and start its counters at 0 so that rates work at once."""
        manifest = engine.manifest
        self._model_info.info(
            {
                "version": manifest.version,
                "arch": manifest.arch,
                "engine": engine.name,
                "sha256": engine.sha256,
            }
        )
        self._load.set(load_seconds)
        self._download.set(download_seconds or 0.0)
        for label in manifest.classes:
            self.predictions.labels(label)

    def text(self) -> bytes:
        """Return every metric in Prometheus' text format."""
        return generate_latest(self._registry)
