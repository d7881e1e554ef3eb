"""A collector of traces: takes OTLP over HTTP on loopback."""

import contextlib
import gzip
import threading
from collections.abc import Iterator
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from tests.helpers.http_server import Handler, Server
from tests.helpers.waiting import until


class Span:
    """A span as the collector got it; ids in hexadecimal, empty: no parent."""

    def __init__(self, span: Any, resource: dict[str, Any]) -> None:
        self.name, self.resource, self.kind = span.name, resource, span.kind
        self.trace_id, self.span_id, self.parent_id = (
            value.hex() for value in (span.trace_id, span.span_id, span.parent_span_id)
        )
        self.state, self.failed = span.trace_state, span.status.code == span.status.STATUS_CODE_ERROR
        self.started, self.ended = span.start_time_unix_nano, span.end_time_unix_nano
        self.attributes = _attributes(span.attributes)


class Collector:
    """A running collector.

    Attributes:
        url: the endpoint for OTEL_EXPORTER_OTLP_ENDPOINT.
        spans: all spans that it took.
        headers: of each request.
        status: what it answers with.
        hangs: while it is set, nothing is answered.
    """

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.headers: list[dict[str, str]] = []
        self.status = 200
        self.hangs = threading.Event()
        self.asked = threading.Event()
        self.over = threading.Event()
        collector = self

        class Taking(Handler):
            def do_POST(self) -> None:
                collector._take(self)

        self._http = Server(Taking)
        self.url = self._http.url

    def _take(self, request: Handler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"]))
        self.asked.set()
        while self.hangs.is_set() and not self.over.wait(0.02):
            pass
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        if self.status == 200 and request.path == "/v1/traces":
            message = ExportTraceServiceRequest()
            gzipped = request.headers.get("Content-Encoding") == "gzip"
            message.ParseFromString(gzip.decompress(body) if gzipped else body)
            for resource in message.resource_spans:
                about = _attributes(resource.resource.attributes)
                for scope in resource.scope_spans:
                    self.spans += [Span(span, about) for span in scope.spans]
        with contextlib.suppress(OSError):  # a client that waited long enough has gone
            status = self.status if request.path == "/v1/traces" else 404
            request.answer(status, ExportTraceServiceResponse().SerializeToString())

    def wait(self, count: int) -> dict[str, Span]:
        """Wait for that many spans; return them by name."""
        until(lambda: len(self.spans) >= count, f"the collector has fewer than {count} spans")
        return {span.name: span for span in self.spans}

    @contextlib.contextmanager
    def serving(self) -> Iterator["Collector"]:
        with self._http:
            try:
                yield self
            finally:
                self.over.set()


def _attributes(pairs: Any) -> dict[str, Any]:
    found = {}
    for pair in pairs:
        kind = pair.value.WhichOneof("value")
        value = getattr(pair.value, kind)
        found[pair.key] = [one.string_value for one in value.values] if kind == "array_value" else value
    return found
