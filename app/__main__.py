"""`python -m app`: read the settings, listen, load the model, and answer until a signal stops the service."""

import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from app import create_app
from app.collecting.writer import THREAD as COLLECTOR
from app.http.admission import WORKER
from app.http.server import Server
from app.inference.model import LOADER
from app.model_source.source import ModelSourceError
from app.service import Service, service_of
from app.settings import Settings, SettingsError, probable_typos
from app.telemetry import logs
from app.telemetry.push import pushing
from app.telemetry.tracing import exporting
from ml.model.allocator import bound_freed_memory
from ml.model.sandbox.sandbox import NoWorkerError

_DESCRIPTION = """\
Serve predictions over HTTP: a page at /, the API's description at /docs.

Environment variables, and a .env file in the current folder, configure the service. docs/settings.md
describes them all."""
_EXAMPLE = """\
example:
  PORT=8080 LOG_FORMAT=text python -m app
  curl -F file=@photo.jpg http://localhost:8080/predict"""

_SWITCH_S = 0.0005
"""How long one thread may keep other threads from running Python. The default, 0.005, costs the event loop
too much time in an overload."""

_imported = time.monotonic()
_log = logging.getLogger("app")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the service.

    Args:
        arguments: the command line without the program's name; None: that of this process.

    Returns:
        The exit code: 0 after a signal (128 + its number after a second one); 1 if the service can't listen,
        has no folder to write to, or has no usable model; 2 if a setting is wrong.
    """
    if arguments := sys.argv[1:] if arguments is None else arguments:
        _parse(arguments)
    try:
        environ = _environment()
        settings = Settings.from_env(environ)
    except SettingsError as error:
        return _fail(str(error), 2)
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        return _fail("no folder is writable, and large uploads need a temporary file: set TMPDIR", 1)
    logs.configure(settings)
    for name, setting in probable_typos(environ).items():
        _log.warning("%s is not a setting of this service; did you mean %s?", name, setting)
    bound_freed_memory()  # before the first thread allocates
    sys.setswitchinterval(_SWITCH_S)
    app = create_app(settings)
    service = service_of(app)
    try:
        server = Server(app, settings, service.admission, service.metrics)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a valid host name"
        return _fail(f"can't listen on {settings.host}:{settings.port}: {reason}", 1)
    for name in ("SIGTERM", "SIGINT", "SIGBREAK"):  # the last one exists on Windows only
        if number := getattr(signal, name, None):
            signal.signal(number, lambda number, _: _drain(server, number))
    # In parallel, so that /health answers and /ready gives the reason while the model is downloaded.
    loading = threading.Thread(target=_load, args=(service, server), name="load", daemon=True)
    with pushing(settings, service.metrics), exporting(environ, service.metrics):
        loading.start()
        exit_code = server.run()
        service.collector.stop()  # while the metrics are still pushed
    loading.join(timeout=1.0)
    in_libraries = ("load", LOADER, COLLECTOR, WORKER)
    if any(thread.name.startswith(in_libraries) for thread in threading.enumerate()):
        # An interpreter that ends while a thread is inside a library may crash, so the process ends at once.
        os._exit(exit_code)
    return exit_code


def _parse(arguments: Sequence[str]) -> None:
    """Handle --help and --version; anything else is an error. Each ends the process."""
    import argparse  # most starts have no arguments

    from ml.model import VERSION

    parser = argparse.ArgumentParser(
        prog="python -m app",
        description=_DESCRIPTION,
        epilog=_EXAMPLE,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=VERSION)
    parser.parse_args(arguments)


def _environment() -> Mapping[str, str]:
    """Return the variables of a `.env` file in the current folder; those of the process take precedence."""
    if not Path(".env").is_file():
        return os.environ
    from dotenv import dotenv_values

    try:
        values = dotenv_values(".env")
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise SettingsError(f"can't read .env: {reason}") from error
    used = {name: value or "" for name, value in values.items() if not os.environ.get(name, "").strip()}
    return os.environ | used


def _load(service: Service, server: Server) -> None:
    try:
        service.model.load()
    except ModelSourceError as error:
        server.stop(_fail(str(error), 1))
    except BaseException:
        server.stop(1)
        raise
    else:
        seconds, url = _seconds_since_start(), server.url
        service.metrics.start_seconds.set(seconds)
        service.collector.start()
        _log.info("ready in %.2f s: %s  try: curl -F file=@photo.jpg %s/predict", seconds, url, url)
        try:
            service.decoder.start()
            if problem := service.decoder.heic_problem():
                _log.warning("HEIC photos are rejected: %s", problem)
        except NoWorkerError as error:
            _log.warning("photos that need a process of their own to decode get 503: %s", error)


def _drain(server: Server, number: int) -> None:
    if server.draining:  # the second signal: don't wait any longer
        os._exit(128 + number)
    _log.info("draining", extra={"fields": {"signal": signal.Signals(number).name}})
    server.drain()


def _fail(message: str, exit_code: int) -> int:
    sys.stderr.write(f"error: {message}\n")
    return exit_code


def _seconds_since_start() -> float:
    """Age of this process: since the kernel started it, or since this import on systems without /proc."""
    try:
        after_name = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        started = int(after_name[19]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, AttributeError, IndexError, ValueError):
        return time.monotonic() - _imported


if __name__ == "__main__":
    sys.exit(main())
