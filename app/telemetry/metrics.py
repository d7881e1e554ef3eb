"""Prometheus metrics: their names, labels and text format.

A new metric is an attribute of `Metrics`.
"""

from collections.abc import Iterable
from functools import partial

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.utils import floatToGoString

from app.telemetry.feedback import MODEL_DIGITS
from ml.model import host
from ml.model.manifest import Manifest
from ml.model.reference import BOUNDS, COMPONENTS

_WORK_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
_REQUEST_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The metrics of one app, in a registry of their own, so that one process can contain several apps."""

    def __init__(self, predictions: Iterable[str] = ()) -> None:
        """Create them; `predictions` are the routes of predictions, whose series exist from the start."""
        self.prediction_routes = frozenset(predictions)
        # The creation time of each counter and histogram would be noise. This can't be set per registry.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self.registry = registry = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=registry)
        counter, gauge = partial(Counter, registry=registry), partial(Gauge, registry=registry)
        histogram = partial(Histogram, registry=registry)

        self.requests = counter(
            "http_requests_total", "HTTP requests answered", ["method", "route", "status"]
        )
        self.request_duration = histogram(
            "http_request_duration_seconds",
            "Time from a complete request to its response",
            ["route"],
            buckets=_REQUEST_S,
        )
        self.predictions = counter("predictions_total", "Photos predicted", ["label"])
        self.confidence = histogram(
            "prediction_confidence", "Probability of the most likely class", buckets=BOUNDS["confidence"]
        )
        self.known = histogram(
            "prediction_known",
            "In-distribution score: 0 if a photo shows none of the classes, 1 if it shows one",
            buckets=BOUNDS["known"],
        )
        self._component = histogram(
            "photo_component",
            "Principal component of the network's features, in standard deviations of the training photos",
            ["statistic", "version"],
            buckets=BOUNDS["component_1"],
        )
        self._components: list[Histogram] = []
        self.brightness = histogram(
            "photo_brightness",
            "Mean of a photo's pixels, from 0 (black) to 1 (white)",
            buckets=BOUNDS["brightness"],
        )
        self.aspect_ratio = histogram(
            "photo_aspect_ratio",
            "Width of a photo divided by its height, after EXIF rotation",
            buckets=BOUNDS["aspect_ratio"],
        )
        self.short_side = histogram(
            "photo_short_side_pixels",
            "The smaller of a photo's width and height",
            buckets=BOUNDS["short_side_pixels"],
        )
        self.inference = histogram(
            "inference_duration_seconds", "Time per run of the network", buckets=_WORK_S
        )
        self.preprocess = histogram(
            "preprocess_duration_seconds", "Time per photo to decode and resize it", buckets=_WORK_S
        )
        self.stopped_decoders = counter(
            "decoders_stopped_total", "Photos whose decoding took more memory or time than a photo may take"
        )
        self.workers = gauge("predictions_workers", "Workers: requests that are predicted in parallel")
        self.in_flight = gauge("predictions_in_flight", "Requests that workers are predicting")
        self.waiting = gauge("predictions_waiting", "Requests in the queue")
        self.rejected = counter("predictions_rejected_total", "Prediction requests rejected", ["reason"])
        self.closed = counter(
            "connections_closed_total", "Connections that the service closed early", ["reason"]
        )
        self.body_bytes = gauge(
            "request_body_bytes", "Bytes of request bodies, in memory and in temporary files"
        )
        self.feedback = counter(
            "feedback_total", "Predictions that users gave feedback on", ["predicted", "actual"]
        )
        self.judged = counter(
            "feedback_judged_total",
            "Predictions that users gave feedback on, by whether they were correct",
            ["correct"],
        )
        # During a canary, feedback also reaches instances that did not give the answer.
        self.judged_by_model = counter(
            "feedback_by_model_total",
            "Predictions that users gave feedback on, by the model that gave the answer",
            ["model", "correct"],
        )
        self.collected = counter(
            "photos_collected_total",
            "Photos kept for later training, by reason; a photo may have several",
            ["reason"],
        )
        self.not_collected = counter(
            "photos_not_collected_total", "Photos that were to be kept, and were not", ["reason"]
        )
        # Not an Info: that exists, without labels, before a model is loaded. Alerts rely on the absence.
        self._model_info = gauge("model_info", "The loaded model", ["version", "arch", "engine", "sha256"])
        self._reference = gauge(
            "model_reference_share",
            "Share of the training reference photos up to a bound",
            ["statistic", "le", "version"],
        )
        self._reference_labels = gauge(
            "model_reference_label_share",
            "Share of a label among the predictions for the test photos",
            ["label"],
        )
        self._figures = gauge("model_test_figure", "Test metrics of the model", ["figure"])
        self.lost_spans = counter("trace_spans_lost_total", "Spans of traces that the collector didn't take")
        self.load_seconds = gauge("model_load_seconds", "Time to load the model file")
        self.download_seconds = gauge(
            "model_download_seconds", "Time to download the model file; 0 for a local file"
        )
        self.download_failures = counter(
            "model_download_failures_total", "Failed attempts to download the model"
        )
        self.stale = gauge(
            "model_stale", "1 if the model is the copy from an earlier start because the download failed"
        )
        self.start_seconds = gauge(
            "service_start_seconds", "Time from the start of the process to a loaded model"
        )
        gauge(
            "process_memory_limit_bytes", "Memory that the process may use; infinite if there is no limit"
        ).set(host.memory_limit())
        # A rate needs a series that already exists, or the first failure would be missed.
        for route in sorted(predictions):
            self.request_duration.labels(route)
            for status in (200, 400, 401, 408, 413, 415, 422, 429, 500, 503):
                self.requests.labels("POST", route, status)
        for reason in ("queue_full", "timeout", "draining", "not_ready", "disconnected"):
            self.rejected.labels(reason)
        for reason in ("no_resources", "uploads", "fetches"):
            self.rejected.labels(reason)
        for reason in ("idle", "slow", "limit", "rejected", "unread"):
            self.closed.labels(reason)
        for correct in ("true", "false"):
            self.judged.labels(correct)

    def deployed(self, name: str) -> None:
        """Report the name of the deployment that this process belongs to."""
        gauge = Gauge(
            "deployment_info", "The deployment (DEPLOYMENT)", ["deployment"], registry=self.registry
        )
        gauge.labels(name).set(1)

    def model_loaded(self, manifest: Manifest, engine: str, sha256: str, labels: Iterable[str]) -> None:
        """Report the loaded model, and start the counter of each label at 0 so that rates work.

        Args:
            manifest: what the model file says about itself.
            engine: name of the engine that runs it.
            sha256: SHA-256 of the model file.
            labels: every label that a photo can get.
        """
        self._model_info.labels(manifest.version, manifest.arch, engine, sha256).set(1)
        for correct in ("true", "false"):
            self.judged_by_model.labels(sha256[:MODEL_DIGITS], correct)
        for label in labels:
            self.predictions.labels(label)
        for name, value in manifest.metrics.items():
            self._figures.labels(name).set(value)
        names = (f"component_{number}" for number in range(1, COMPONENTS + 1))
        self._components = [
            self._component.labels(name, manifest.version) for name in names if name in manifest.reference
        ]
        for statistic, shares in manifest.reference.items():
            for key, share in shares.items():
                if statistic == "labels":
                    self._reference_labels.labels(key).set(share)
                elif statistic in BOUNDS:
                    # Written as the histogram writes it, for queries that join the two.
                    le = floatToGoString(key)  # type: ignore[no-untyped-call]
                    self._reference.labels(statistic, le, manifest.version).set(share)

    def count_components(self, values: Iterable[float]) -> None:
        """Count a photo's principal components; those without a reference mean nothing and are left out."""
        for histogram, value in zip(self._components, values, strict=False):
            histogram.observe(value)
