"""The model that the service predicts with: first absent, then loaded."""

import logging
import time

from app.inference import engine
from app.model_source import source as model_source
from app.settings import Settings
from app.telemetry.metrics import Metrics
from ml.model.errors import BundleError

_log = logging.getLogger(__name__)


class ModelError(RuntimeError):
    """The model can't be loaded; the message is one line for the operator."""


class Model:
    """Holds the engine once it is loaded. Requests read it; only the thread that loads writes it.

    Attributes:
        engine: the loaded engine; None: not loaded yet.
        status: why there is no engine yet, for people.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self.engine: engine.Engine | None = None
        self.status = "the model is being loaded"

    def load(self) -> engine.Engine:
        """Get the model file and load it.

        Raises:
            ModelError: there is no file, or the service can't use it.
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
        self._metrics.model_loaded(
            loaded.manifest,
            loaded.name,
            loaded.sha256,
            engine.labels(loaded, self._settings.unknown),
            load_seconds=time.perf_counter() - started,
            download_seconds=file.download_seconds,
            stale=file.stale,
        )
        self.engine = loaded
        _log.info(
            "model loaded",
            extra={"fields": {"version": loaded.manifest.version, "arch": loaded.manifest.arch,
                              "engine": loaded.name, "sha256": loaded.sha256}},
        )  # fmt: skip
        return loaded

    def _report(self, status: str) -> None:
        self.status = status

    def _name(self) -> str:
        url = self._settings.model_url
        return model_source.redact(url) if url else "the default model"
