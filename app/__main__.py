"""`python -m app`: read the settings, listen, load the model, answer until told to stop."""

import logging
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path

from app import create_app, logs, memory
from app.model import Model, ModelError
from app.server import Server
from app.settings import Settings, SettingsError

_SWITCH_S = 0.0005
"""How long one thread may keep another from running Python; 0.005 by default, which is a turn of the server's
loop too many under an overload."""

_imported = time.monotonic()
_log = logging.getLogger("app")


def main() -> int:
    """Run the service.

    Returns:
        The process's exit code: 0 when it was told to stop (128 + the signal, when told twice), 1 when it
        can't listen, can write nowhere or has no usable model, 2 when a setting is wrong.
    """
    try:
        settings = Settings.from_env(_environment())
    except SettingsError as error:
        return _fail(str(error), 2)
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        return _fail("no folder can be written to, and large uploads wait in one: set TMPDIR", 1)
    logs.configure(settings)
    memory.bound_freed_memory()  # before the first thread takes one
    sys.setswitchinterval(_SWITCH_S)
    app = create_app(settings)
    try:
        server = Server(app, settings)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no host name"
        return _fail(f"can't listen on {settings.host}:{settings.port}: {reason}", 1)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda number, _: _end(server, number))
    # Beside the server, so that /health answers and /ready says why not while a download takes its time.
    loading = threading.Thread(
        target=_load, args=(app.extensions["model"], server, settings), name="load", daemon=True
    )
    loading.start()
    exit_code = server.run()
    loading.join(timeout=1.0)  # an interpreter that ends while a library is being loaded may crash
    return exit_code


def _environment() -> Mapping[str, str]:
    """Return the variables of the process, over those of a `.env` file in the current folder."""
    if not Path(".env").is_file():
        return os.environ
    from dotenv import dotenv_values

    try:
        values = dotenv_values(".env")
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise SettingsError(f"can't read .env: {reason}") from error
    return {name: value or "" for name, value in values.items()} | dict(os.environ)


def _load(model: Model, server: Server, settings: Settings) -> None:
    try:
        model.load()
    except ModelError as error:
        server.stop(_fail(str(error), 1))
    except BaseException:
        server.stop(1)
        raise
    else:
        host = "127.0.0.1" if settings.host in ("0.0.0.0", "::") else settings.host  # noqa: S104
        url = f"http://{f'[{host}]' if ':' in host else host}:{server.port}"
        _log.info(
            "ready in %.2f s: %s  try: curl -F file=@photo.jpg %s/predict", _seconds_since_start(), url, url
        )


def _end(server: Server, number: int) -> None:
    if server.draining:  # asked twice: whoever asks won't wait
        os._exit(128 + number)
    _log.info("draining", extra={"fields": {"signal": signal.Signals(number).name}})
    server.drain()


def _fail(message: str, exit_code: int) -> int:
    sys.stderr.write(f"error: {message}\n")
    return exit_code


def _seconds_since_start() -> float:
    """Age of this process: since the kernel started it, or since this import where /proc doesn't say."""
    try:
        after_name = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        started = int(after_name[19]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, AttributeError, IndexError, ValueError):
        return time.monotonic() - _imported


if __name__ == "__main__":
    sys.exit(main())
