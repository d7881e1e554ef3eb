"""What the routes work with: one `Service` per Flask app."""

from dataclasses import dataclass

from flask import Flask, current_app
from werkzeug.exceptions import ServiceUnavailable

from app.http.admission import Admission
from app.http.channel import Channel
from app.inference.answers import Engine
from app.inference.model import Model
from app.settings import Settings
from app.telemetry.metrics import Metrics

_KEY = "service"


@dataclass(frozen=True)
class Service:
    """The parts of the service.

    Attributes:
        settings: how it runs.
        model: the model, absent until it is loaded.
        metrics: what it counts.
        admission: workers and queue of predictions.
    """

    settings: Settings
    model: Model
    metrics: Metrics
    admission: Admission[Channel]

    @classmethod
    def attach(cls, app: Flask, settings: Settings) -> "Service":
        """Make the parts and attach them to an app."""
        metrics = Metrics()
        admission: Admission[Channel] = Admission(
            settings.max_concurrency, settings.max_queue, settings.request_timeout_s
        )
        metrics.workers.set(admission.workers)
        metrics.waiting.set_function(lambda: admission.waiting)
        service = cls(settings, Model(settings, metrics), metrics, admission)
        app.extensions[_KEY] = service
        return service

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
        """Every label that a photo can get.

        Raises:
            ServiceUnavailable: the model isn't loaded yet.
        """
        return self.engine.labels(self.settings.unknown)


def service_of(app: Flask) -> Service:
    """Return the service of an app."""
    service: Service = app.extensions[_KEY]
    return service


def current_service() -> Service:
    """Return the service of the app that handles the current request."""
    return service_of(current_app)
