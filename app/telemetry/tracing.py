"""Lets OpenTelemetry export the traces of requests if its OTEL_* variables ask for that.

If they don't, nothing of OpenTelemetry is imported, and a request only logs the trace that its client names.
"""

import contextlib
import logging
import os
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from app.telemetry.metrics import Metrics
from app.telemetry.request_trace import set_exporter

if TYPE_CHECKING:
    from app.telemetry.otel import Exporter

VARIABLES = {
    "OTEL_EXPORTER_OTLP_ENDPOINT": "URL of a collector, such as `http://localhost:4318`. Traces are sent to "
    "the path `/v1/traces` below it, by HTTP with protobuf. Unset: nothing is sent.",
    "OTEL_EXPORTER_OTLP_HEADERS": "Headers for the collector, such as `authorization=Bearer%20TOKEN`.",
    "OTEL_SERVICE_NAME": "The service's name in traces. Unset: `cats-vs-dogs`.",
    "OTEL_RESOURCE_ATTRIBUTES": "What else describes this process, such as "
    "`deployment.environment.name=production`.",
    "OTEL_TRACES_SAMPLER": "Which requests are traced. Unset: `parentbased_always_on`, all except those that "
    "the client's `traceparent` excludes. `traceidratio`: a share, whatever clients say.",
    "OTEL_TRACES_SAMPLER_ARG": "That share, such as `0.01`.",
    "OTEL_TRACES_EXPORTER": "`otlp`: traces are sent, to `http://localhost:4318` if no endpoint is set. "
    "`none`: nothing is sent.",
    "OTEL_SDK_DISABLED": "`true`: nothing is sent.",
}
"""The most important variables, for the documentation; OpenTelemetry's SDK reads further ones."""

_SHUTDOWN_S = 1.0
"""How long the end of the service may wait for the collector."""

_log = logging.getLogger(__name__)


@contextlib.contextmanager
def exporting(environ: Mapping[str, str], metrics: Metrics) -> Iterator[None]:
    """Export traces while the context lasts, if the variables ask for that; log why if it isn't possible.

    Args:
        environ: the variables, which may come from a `.env` file.
        metrics: where lost spans are counted.
    """
    variables = {name: text.strip() for name, text in environ.items() if name.startswith("OTEL_")}
    exporter = _start(variables, metrics) if _wanted(variables) else None
    if exporter is None:
        yield
        return
    set_exporter(exporter)
    try:
        yield
    finally:
        set_exporter(None)
        thread = threading.Thread(target=exporter.shutdown, name="end of traces", daemon=True)
        thread.start()
        thread.join(_SHUTDOWN_S)


def _wanted(variables: Mapping[str, str]) -> bool:
    if variables.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if exporters := variables.get("OTEL_TRACES_EXPORTER"):
        return exporters.lower() != "none"
    return bool(_endpoint(variables))


def _endpoint(variables: Mapping[str, str]) -> str:
    return (
        variables.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
        or variables.get("OTEL_EXPORTER_OTLP_ENDPOINT")
        or ""
    )


def _problem(variables: Mapping[str, str]) -> str:
    """Return why the service can't do what the variables ask for; empty: it can."""
    exporters = (variables.get("OTEL_TRACES_EXPORTER") or "otlp").lower().split(",")
    if "otlp" not in map(str.strip, exporters):
        return "OTEL_TRACES_EXPORTER must be otlp or none"
    for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if protocol := variables.get(name):
            if protocol != "http/protobuf":
                return f"{name} must be http/protobuf; a collector takes that on port 4318"
            break
    # The URL may contain secrets, so no message repeats it.
    if (endpoint := _endpoint(variables)) and not endpoint.lower().startswith(("http://", "https://")):
        return "the endpoint must start with http:// or https://"
    return ""


def _start(variables: Mapping[str, str], metrics: Metrics) -> "Exporter | None":
    if not (problem := _problem(variables)):
        for (
            name,
            text,
        ) in variables.items():  # the SDK reads them from there, and an empty one would not be unset
            if text:
                os.environ[name] = text
            else:
                os.environ.pop(name, None)
        try:
            from app.telemetry.otel import Exporter

            return Exporter(metrics)
        except ImportError:
            problem = "OpenTelemetry isn't installed; run pip install -r requirements-otel.txt, or build the "
            problem += "image with --build-arg OTEL=1"
        except Exception as error:  # noqa: BLE001  (whatever the variables make the SDK raise)
            problem = f"check the OTEL_* variables: {error!s:.200}"
    _log.warning("traces are not exported: %s", problem)
    return None
