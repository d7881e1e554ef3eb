"""Sends traces to a collector with OpenTelemetry's SDK; only `app.telemetry.tracing` imports this."""

import logging
import os
import threading
import time
from collections.abc import Sequence

from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    TraceState,
    set_span_in_context,
)

from app.telemetry.metrics import Metrics
from app.telemetry.request_trace import RequestTrace
from app.telemetry.requests import METHODS, PROBES
from app.telemetry.trace_context import TraceContext, parse_state
from ml.model import NAME, VERSION

_QUEUE = 2048
"""Spans that may wait for the collector, unless OTEL_BSP_MAX_QUEUE_SIZE says otherwise."""
_UNTRACED = PROBES | {"/metrics"}
"""Machines ask for these all the time, so they are traced only if the client names a trace."""
_MAX_PATH = 256

_log = logging.getLogger(__name__)


class Exporter:
    """Makes the spans of answered requests; a thread of the SDK sends them.

    At most _QUEUE spans wait. If the collector takes none, further ones are lost and counted.
    """

    def __init__(self, metrics: Metrics) -> None:
        """Configure the SDK from its OTEL_* variables; it raises various exceptions for bad ones."""
        self._lost = metrics.lost_spans
        self._lock = threading.Lock()
        self._waiting = 0
        self._limit = int(os.environ.get("OTEL_BSP_MAX_QUEUE_SIZE", _QUEUE))
        self._provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
        sender = _Sender(OTLPSpanExporter(), self)
        self._provider.add_span_processor(BatchSpanProcessor(sender, max_queue_size=self._limit))
        self._tracer = self._provider.get_tracer("app", VERSION)
        # The SDK logs several lines per failure, and they may contain the collector's URL.
        debug = logging.getLogger("app").isEnabledFor(logging.DEBUG)
        logging.getLogger("opentelemetry").setLevel(logging.WARNING if debug else logging.CRITICAL)

    def export(
        self,
        trace: RequestTrace,
        request_id: str,
        method: str,
        route: str | None,
        path: str,
        status: int,
        started: float,
    ) -> TraceContext | None:
        """Export the spans of an answered request; return its own span. See `RequestTrace.finish`."""
        if route in _UNTRACED and not trace.parent:
            return None
        now, now_ns = time.perf_counter(), time.time_ns()

        def at(moment: float) -> int:
            return now_ns - int((now - moment) * 1e9)

        known = method if method in METHODS else "_OTHER"
        name = method if known == method else "HTTP"
        span = self._tracer.start_span(
            f"{name} {route}" if route else name,
            _context(trace),
            SpanKind.SERVER,
            _attributes(known, method, route, path, status, request_id) | {"url.scheme": trace.scheme},
            start_time=at(started),
        )
        own = span.get_span_context()
        context = TraceContext(f"{own.trace_id:032x}", f"{own.span_id:016x}", int(own.trace_flags))
        if not span.is_recording() or not self._reserve(1 + len(trace.stages)):
            return context
        inside = set_span_in_context(span)
        for stage in trace.stages:
            child = self._tracer.start_span(stage.name, inside, start_time=at(stage.started))
            if stage.error:
                _mark_failed(child, stage.error)
            child.end(at(stage.ended))
        if status >= 500:
            _mark_failed(span, str(status))
        span.end(now_ns)
        return context

    def _reserve(self, spans: int) -> bool:
        with self._lock:
            fits = self._waiting + spans <= self._limit
            self._waiting += spans if fits else 0
        if not fits:
            self._lost.inc(spans)
        return fits

    def taken(self, spans: int) -> None:
        """Note that spans have left the queue."""
        with self._lock:
            self._waiting -= spans

    def lose(self, spans: int) -> None:
        """Count spans that the collector didn't take."""
        self._lost.inc(spans)

    def shutdown(self) -> None:
        """Send what waits, for as long as the collector takes."""
        self._provider.shutdown()


class _Sender(SpanExporter):
    """Sends batches of spans, counts what is lost, and logs one line when that begins."""

    def __init__(self, inner: SpanExporter, owner: Exporter) -> None:
        self._inner, self._owner = inner, owner
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._owner.taken(len(spans))
        result = self._inner.export(spans)
        failed = result is not SpanExportResult.SUCCESS
        if failed:
            self._owner.lose(len(spans))
        if failed and not self._failing:
            _log.warning("the collector takes no traces, so they are lost; LOG_LEVEL=debug shows the reasons")
        elif self._failing and not failed:
            _log.info("the collector takes traces again")
        self._failing = failed
        return result

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._inner.force_flush(timeout_millis)


def _resource() -> Resource:
    resource = Resource.create()
    defaults = {SERVICE_NAME: NAME, SERVICE_VERSION: VERSION}
    if not str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        del defaults[SERVICE_NAME]
    if SERVICE_VERSION in resource.attributes:
        del defaults[SERVICE_VERSION]
    return resource.merge(Resource(defaults))


def _context(trace: RequestTrace) -> Context:
    """Return the context whose span is the client's."""
    if not trace.parent:
        return Context()
    trace_id, span_id, flags = trace.parent
    state = TraceState(parse_state(trace.state))
    client = SpanContext(int(trace_id, 16), int(span_id, 16), True, TraceFlags(flags), state)
    return set_span_in_context(NonRecordingSpan(client), Context())


def _attributes(
    known: str, method: str, route: str | None, path: str, status: int, request_id: str
) -> dict[str, str | int | Sequence[str]]:
    """Return the attributes of OpenTelemetry's semantic conventions for HTTP that are stable.

    The query and the client's address are left out, because they may be personal.
    """
    attributes: dict[str, str | int | Sequence[str]] = {
        "http.request.method": known,
        "http.response.status_code": status,
        "http.response.header.x-request-id": [request_id],
    }
    if known != method:
        attributes["http.request.method_original"] = method[:64]
    if path:
        attributes["url.path"] = path[:_MAX_PATH]
    if route:
        attributes["http.route"] = route
    return attributes


def _mark_failed(span: Span, error: str) -> None:
    span.set_attribute("error.type", error)
    span.set_status(StatusCode.ERROR)
