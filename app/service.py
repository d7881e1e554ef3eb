"""What the routes work with: one `Service` per Flask app."""

from flask import Flask, current_app
from werkzeug.exceptions import ServiceUnavailable

from app.collecting.collector import Collector
from app.http.admission import Admission
from app.http.channel import Channel
from app.http.gate import PREDICTIONS
from app.inference.decoding import Decoder
from app.inference.engine import Engine
from app.inference.model import Model
from app.settings import Settings
from app.telemetry.feedback import SignedPredictions
from app.telemetry.metrics import Metrics


class Service:
    """The parts of the service.

    Attributes:
        settings: how it runs.
        metrics: what it counts.
        model: the model, absent until it is loaded.
        decoder: decodes photos.
        admission: workers and queue of predictions.
        signed_predictions: the predictions that may get feedback.
        collector: keeps photos for later training.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.metrics = Metrics(PREDICTIONS)
        self.model = Model(settings, self.metrics)
        self.decoder = Decoder(settings, self.metrics)
        self.admission: Admission[Channel] = Admission(
            settings.max_concurrency, settings.max_queue, settings.request_timeout_s
        )
        self.signed_predictions = SignedPredictions(settings.feedback_secret)
        self.collector = Collector(settings, self.metrics, self.decoder, lambda: self.admission.saturated)
        if settings.deployment:
            self.metrics.deployed(settings.deployment)
        self.metrics.workers.set(settings.max_concurrency)
        self.metrics.waiting.set_function(lambda: self.admission.waiting)

    @property
    def engine(self) -> Engine:
        """The loaded model's engine.

        Raises:
            ServiceUnavailable: the model isn't loaded yet; the client may try again.
        """
        if self.model.engine is None:
            raise ServiceUnavailable(self.model.status, retry_after=1)
        return self.model.engine

    @property
    def labels(self) -> tuple[str, ...]:
        """Every label that a photo can get; raises ServiceUnavailable like `engine`."""
        return self.engine.labels(self.settings.unknown)


def service_of(app: Flask) -> Service:
    """Return the service of an app."""
    service: Service = app.extensions["service"]
    return service


def current_service() -> Service:
    """Return the service of the app that handles the current request."""
    return service_of(current_app)
