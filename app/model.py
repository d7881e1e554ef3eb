"""The model that the service answers with: absent, then loaded."""

import logging
import time

from werkzeug.exceptions import ServiceUnavailable

from app import engine, model_source
from app.metrics import Metrics
from app.settings import Settings
from ml.errors import BundleError

_log = logging.getLogger(__name__)


class ModelError(RuntimeError):
    """The model can't be loaded; the message is one line for the operator."""


class Model:
    """Holds the engine once it is loaded. Read by requests, written once by whoever loads."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self.engine: engine.Engine | None = None
        self.status = "the model is being loaded"
        """Why there is no engine, for people."""

    def load(self) -> engine.Engine:
        """Get the file, load it, and from then on be ready.

        Raises:
            ModelError: no file, or not one that this service can use.
        """
        try:
            file = model_source.fetch(
                self._settings, self._report, failed=self._metrics.download_failures.inc
            )
            self._report("loading the model")
            started = time.perf_counter()
            loaded = engine.load(file.path, self._settings.engine, self._settings.threads)
        except model_source.ModelSourceError as error:
            raise ModelError(str(error)) from error
        except BundleError as error:
            model_source.forget(self._settings)
            raise ModelError(f"{self._name()} can't be used: {error}") from error
        except OSError as error:
            raise ModelError(f"{self._name()} can't be read: {error.strerror}") from error
        seconds = time.perf_counter() - started
        labels = engine.labels(loaded, self._settings.unknown)
        self._metrics.model_loaded(loaded, labels, seconds, file.download_seconds, file.stale)
        self.engine = loaded
        _log.info(
            "model loaded",
            extra={"fields": {"version": loaded.manifest.version, "arch": loaded.manifest.arch,
                              "engine": loaded.name, "sha256": loaded.sha256}},
        )  # fmt: skip
        return loaded

    def require(self) -> engine.Engine:
        """Return the engine.

        Raises:
            ServiceUnavailable: there is none yet; the client may come back.
        """
        if self.engine is None:
            raise ServiceUnavailable(self.status, retry_after=1)
        return self.engine

    def _report(self, status: str) -> None:
        self.status = status

    def _name(self) -> str:
        url = self._settings.model_url
        return model_source.redact(url) if url else "the default model"
