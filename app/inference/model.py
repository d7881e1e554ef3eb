"""The model that the service predicts with: first absent, then loaded."""

import logging
import threading
import time
from concurrent.futures import Future
from pathlib import Path

from app.inference.engine import Engine
from app.inference.loading import load
from app.model_source import source
from app.model_source.source import ModelSourceError
from app.settings import Settings
from app.telemetry.metrics import Metrics
from ml.model.errors import BundleError
from ml.model.urls import public

LOAD_S = 300.0
"""How long a model file may take to load. One second is usual, ten seconds on a tenth of a CPU."""

LOADER = "load file"
"""Name of the thread that loads a model file. It may be left behind, inside a library."""

_log = logging.getLogger(__name__)


class Model:
    """Holds the engine once it is loaded. Requests read it; only the thread that loads writes it.

    Attributes:
        engine: the loaded engine; None: not loaded yet.
        status: why there is no engine yet, for people.
    """

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._settings = settings
        self._metrics = metrics
        self.engine: Engine | None = None
        self.status = "the model is being loaded"

    def load(self) -> None:
        """Get the model file and load it.

        Raises:
            ModelSourceError: there is no file, or the service can't use it.
        """
        settings, metrics = self._settings, self._metrics
        name = public(settings.model_url) if settings.model_url else "the default model"
        file = source.fetch(settings, self._report, failed=metrics.download_failures.inc)
        self._report("loading the model")
        started = time.perf_counter()
        try:
            engine = self._load_in_time(file.path)
        except BundleError as error:
            source.forget(settings)
            raise ModelSourceError(f"{name} can't be used: {error}") from error
        except OSError as error:
            raise ModelSourceError(f"{name} can't be read: {error.strerror}") from error
        metrics.load_seconds.set(time.perf_counter() - started)
        metrics.download_seconds.set(file.download_seconds or 0.0)
        metrics.stale.set(file.stale)
        metrics.model_loaded(engine.manifest, engine.name, engine.sha256, engine.labels(settings.unknown))
        self.engine = engine
        fields = {"version": engine.manifest.version, "arch": engine.manifest.arch}
        fields |= {"engine": engine.name, "sha256": engine.sha256}
        _log.info("model loaded", extra={"fields": fields})

    def _load_in_time(self, path: Path) -> Engine:
        """Load the file in a thread that is left behind after LOAD_S: no runtime can be stopped from outside.

        Raises:
            BundleError: the engine can't use the file, or needs too long for it.
        """
        settings = self._settings
        result: Future[Engine] = Future()

        def run() -> None:
            try:
                result.set_result(load(path, settings.engine, settings.threads, settings.request_timeout_s))
            except BaseException as error:  # noqa: BLE001  (passed to the caller)
                result.set_exception(error)

        threading.Thread(target=run, name=LOADER, daemon=True).start()
        try:
            return result.result(LOAD_S)
        except TimeoutError:
            raise BundleError(f"it isn't loaded after {LOAD_S:g} s") from None

    def _report(self, status: str) -> None:
        self.status = status
