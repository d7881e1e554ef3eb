"""Log lines: JSON objects, or text for people."""

import json
import logging
import sys
from datetime import UTC, datetime

from app.settings import Settings
from ml.model.errors import quiet_stores


def configure(settings: Settings) -> None:
    """Write the log to standard output. Called once, by the command, never at import."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter() if settings.log_format == "json" else TextFormatter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    for name in ("app", "ml"):
        logging.getLogger(name).setLevel(settings.log_level.upper())
    # urllib3 logs whole URLs, including secrets in the query; waitress logs one line per queued request.
    for name in ("urllib3", "waitress"):
        logging.getLogger(name).setLevel(logging.ERROR)
    quiet_stores()


class JsonFormatter(logging.Formatter):
    """One JSON object per line: time (UTC), level, message, then what `extra={"fields": {...}}` contains."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


class TextFormatter(logging.Formatter):
    """Local time, level, message and fields, for a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, followed by the traceback if there is one."""
        time = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        fields = [f"{name}={value}" for name, value in getattr(record, "fields", {}).items()]
        line = " ".join([time, record.levelname.lower(), record.getMessage(), *fields])
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line
