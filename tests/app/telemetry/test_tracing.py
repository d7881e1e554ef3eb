"""Traces of the real service, sent to a collector on loopback."""

import contextlib
import http.client
import json
import sys
import time

import pytest

from scripts.common.process import free_port
from tests.app.routes.test_predict import RED_JPEG
from tests.app.telemetry.test_trace_context import SPAN, TRACE, VALID
from tests.helpers.collector import Collector
from tests.helpers.service import COMMAND, Service, running
from tests.helpers.waiting import HANG_S, until

SERVER = 2  # the kind of a span that answers a request
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "50"}


@pytest.fixture
def collector():
    with Collector().serving() as collector:
        yield collector


@contextlib.contextmanager
def traced(collector: Collector, make_model, command=COMMAND, **env: str):
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url} | SOON | env
    with running(command=command, MODEL_URL=make_model().as_uri(), **env) as service:
        service.wait()
        yield service


def predict(service: Service, body: bytes = RED_JPEG, path: str = "/predict", **headers: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=HANG_S)
    with contextlib.closing(connection):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("POST", path, body, {"Content-Type": "image/jpeg"} | named)
        response = connection.getresponse()
        response.read()
        return response.status


def lines_of(service: Service) -> list[dict]:
    """End the service; return its log."""
    code, output, error = service.end()
    assert (code, error) == (0, "")
    return [json.loads(line) for line in output.splitlines()]


def warnings_of(service: Service) -> list[str]:
    return [line["message"] for line in lines_of(service) if line["level"] == "warning"]


def test_without_a_collector_the_client_s_trace_is_logged(make_model):
    with running(MODEL_URL=make_model().as_uri()) as service:
        service.wait()
        assert predict(service, X_Request_ID="named", traceparent=VALID) == 200
        assert predict(service, X_Request_ID="none") == 200
        assert predict(service, X_Request_ID="bad", traceparent=VALID.upper()) == 200
        assert predict(service, bytes(11 << 20), X_Request_ID="large", traceparent=VALID) == 413
        assert service.get("/health")[0] == 200
        ids = {line["request_id"]: line for line in lines_of(service) if "request_id" in line}
    named = {"trace_id": TRACE, "span_id": SPAN, "trace_flags": "01"}
    for request_id in ("named", "large"):
        assert named.items() <= ids[request_id].items()
    for request_id in ("none", "bad"):
        assert not {"trace_id", "span_id", "trace_flags"} & set(ids[request_id])


def test_the_spans_of_a_prediction(collector, make_model):
    with traced(collector, make_model, OTEL_RESOURCE_ATTRIBUTES="service.version=7,team=cats") as service:
        state = "vendor=1,other@x=2"
        before = time.time_ns()
        assert predict(service, path="/predict?secret=1", traceparent=VALID, tracestate=state) == 200
        spans = collector.wait(4)
        after = time.time_ns()
        (line,) = [line for line in lines_of(service) if line.get("route") == "/predict"]
    assert set(spans) == {"POST /predict", "queue", "decode", "inference"}
    assert len(collector.spans) == 4  # the probes of `wait` have none
    request = spans["POST /predict"]
    assert (request.trace_id, request.parent_id, request.kind, request.failed) == (TRACE, SPAN, SERVER, False)
    assert request.state == state
    assert request.attributes == {
        "http.request.method": "POST",
        "http.route": "/predict",
        "http.response.status_code": 200,
        "http.response.header.x-request-id": [line["request_id"]],
        "url.path": "/predict",
        "url.scheme": "http",
    }
    assert (line["trace_id"], line["span_id"]) == (TRACE, request.span_id)
    about = {"service.name": "cats-vs-dogs", "service.version": "7", "team": "cats"}
    assert about.items() <= request.resource.items()
    queue, decode, inference = (spans[name] for name in ("queue", "decode", "inference"))
    for child in (queue, decode, inference):
        assert (child.trace_id, child.parent_id) == (TRACE, request.span_id)
    moments = [request.started, queue.started, queue.ended, decode.started, decode.ended]
    moments += [inference.started, inference.ended, request.ended]
    assert moments == sorted(moments)
    assert before - 10**9 < request.started < request.ended < after + 10**9


def test_a_request_of_no_trace_begins_one(collector, make_model):
    with traced(collector, make_model, OTEL_SERVICE_NAME="pets") as service:
        assert predict(service) == 200
        request = collector.wait(4)["POST /predict"]
        assert request.parent_id == ""
        assert request.resource["service.name"] == "pets"
        (line,) = [line for line in lines_of(service) if line.get("route") == "/predict"]
    assert (line["trace_id"], line["span_id"]) == (request.trace_id, request.span_id)


def test_the_scheme_is_that_of_the_proxy_s_address(collector, make_model):
    with traced(collector, make_model, TRUSTED_PROXIES="127.0.0.1") as service:
        assert predict(service, X_Forwarded_Proto="https") == 200
        assert collector.wait(4)["POST /predict"].attributes["url.scheme"] == "https"
        collector.spans.clear()
        assert predict(service, bytes(11 << 20), X_Forwarded_Proto="https") == 413  # without the app
        assert collector.wait(1)["POST /predict"].attributes["url.scheme"] == "https"


def test_errors(collector, make_model):
    with traced(collector, make_model) as service:
        assert predict(service, RED_JPEG[:100], traceparent=VALID) == 422
        failed = collector.wait(3)
        assert (failed["POST /predict"].failed, failed["decode"].failed) == (False, True)
        assert failed["decode"].attributes["error.type"] == "BrokenImageError"
        collector.spans.clear()
        assert predict(service, path="/nothing/here", traceparent=VALID) == 404
        attributes = collector.wait(2)["POST"].attributes
        assert attributes["url.path"] == "/nothing/here"
        assert "http.route" not in attributes
        collector.spans.clear()
        assert predict(service, bytes(11 << 20), traceparent=VALID) == 413  # without the app
        (large,) = collector.wait(1).values()
        assert (large.name, large.parent_id) == ("POST /predict", SPAN)


def test_hostile_requests_spoil_no_spans(collector, make_model):
    with traced(collector, make_model) as service:
        hostile = {
            "traceparent": f"01-{TRACE}-{SPAN}-01-" + "x" * 400,
            "tracestate": "a=\xff,\x80" + "b" * 9000,
        }
        assert predict(service, path="/%ff%00%ed%a0%80?" + "q" * 2000, **hostile) == 404
        assert predict(service, traceparent=VALID) == 200
        collector.wait(2 + 4)
        (odd,) = [span for span in collector.spans if span.name == "POST"]
    assert (odd.parent_id, odd.state) == (SPAN, "")
    assert odd.attributes["url.path"].startswith("/")


def test_probes_are_traced_only_for_a_client_that_names_a_trace(collector, make_model):
    with traced(collector, make_model) as service:
        for path in ("/health", "/ready", "/v2/health/live", "/v2/health/ready"):
            assert service.get(path)[0] == 200
        connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=HANG_S)
        connection.request("GET", "/health", headers={"traceparent": VALID})
        assert connection.getresponse().status == 200
        connection.close()
        assert set(collector.wait(2)) == {"GET /health", "queue"}
        assert service.end()[0] == 0
        assert len(collector.spans) == 2


@pytest.mark.parametrize(
    ("sampler", "traced_ids"),
    [({}, {TRACE}), ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}, set())],
)
def test_sampling(collector, make_model, sampler, traced_ids):
    with traced(collector, make_model, **sampler) as service:
        other = VALID.replace(TRACE, "1" * 32)[:-2] + "00"
        assert predict(service, traceparent=other) == 200  # this client says: not recorded
        assert predict(service, traceparent=VALID) == 200
        collector.wait(4 * len(traced_ids))
        logged = [line["trace_id"] for line in lines_of(service) if line.get("route") == "/predict"]
    assert logged == ["1" * 32, TRACE]
    assert {span.trace_id for span in collector.spans} == traced_ids


_PATIENT = """
import sys
from app.__main__ import main
from app.telemetry import tracing

tracing._SHUTDOWN_S = 60
sys.exit(main([]))
"""


def test_what_waits_at_the_end_is_sent(collector, make_model):
    command = (sys.executable, "-c", _PATIENT)
    with traced(collector, make_model, command=command, OTEL_BSP_SCHEDULE_DELAY="3600000") as service:
        assert predict(service) == 200
        assert not collector.spans
        assert service.end()[0] == 0
        assert len(collector.spans) == 4


def test_variables_of_a_dotenv_file_and_empty_ones(collector, make_model, tmp_path):
    values = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"{collector.url}/",
        "OTEL_EXPORTER_OTLP_HEADERS": "x-key=secret",
    }
    values |= {"OTEL_EXPORTER_OTLP_COMPRESSION": "gzip", "MODEL_URL": make_model().as_uri()} | SOON
    (tmp_path / ".env").write_text("".join(f"{name}={value}\n" for name, value in values.items()))
    empty = dict.fromkeys(["OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"], "")
    empty |= dict.fromkeys(["OTEL_SERVICE_NAME", "OTEL_TRACES_SAMPLER", "OTEL_BSP_MAX_QUEUE_SIZE"], " ")
    with running(cwd=tmp_path, **empty) as service:
        service.wait()
        assert predict(service) == 200
        collector.wait(4)
        assert warnings_of(service) == []
    assert collector.headers[0]["x-key"] == "secret"


@pytest.mark.parametrize("trouble", ["hangs", "refuses", "rejects", "is no server"])
def test_a_collector_that_takes_nothing_costs_no_answer(collector, make_model, trouble):
    if trouble == "hangs":
        collector.hangs.set()
    collector.status = 401 if trouble == "rejects" else 200
    env = {"OTEL_EXPORTER_OTLP_TIMEOUT": "1", "OTEL_BSP_MAX_QUEUE_SIZE": "20"}
    env |= {"OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "10"}
    if trouble == "refuses":
        env["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://user:secret@127.0.0.1:{free_port()}/?token=secret"
    if trouble == "is no server":
        env["OTEL_EXPORTER_OTLP_ENDPOINT"] = "http://no.such.host.invalid:4318"
    with traced(collector, make_model, **env) as service:
        assert [predict(service) for _ in range(20)] == [200] * 20

        def lost() -> float:
            (line,) = [
                one for one in service.metrics().splitlines() if one.startswith("trace_spans_lost_total ")
            ]
            return float(line.split()[1])

        # 4 spans each: at most 20 wait and 10 are being sent, and these are given up after a while.
        until(lambda: lost() >= 80 - 30)
        until(lambda: predict(service) == 200 and lost() >= 80)
        started = time.monotonic()
        collector.hangs.set()
        lines = lines_of(service)
        assert time.monotonic() - started < HANG_S / 10
    shown = [line["message"] for line in lines if line["level"] in ("warning", "error")]
    assert shown == ["the collector takes no traces, so they are lost; LOG_LEVEL=debug shows the reasons"]
    assert "secret" not in json.dumps(lines)


def test_spans_that_are_sent_make_room_for_others(collector, make_model):
    small = {"OTEL_BSP_MAX_QUEUE_SIZE": "8", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "8"}
    with traced(collector, make_model, **small) as service:
        for number in range(1, 5):
            assert predict(service) == 200
            collector.wait(4 * number)
        assert "trace_spans_lost_total 0.0" in service.metrics()


def test_a_collector_that_comes_back(collector, make_model):
    collector.status = 400
    with traced(collector, make_model) as service:
        assert predict(service) == 200
        collector.asked.wait(HANG_S)
        until(lambda: "trace_spans_lost_total 4.0" in service.metrics())
        collector.status = 200
        assert predict(service) == 200
        collector.wait(4)
        messages = [line["message"] for line in lines_of(service)]
    assert sum("takes no traces" in message for message in messages) == 1
    assert sum("takes traces again" in message for message in messages) == 1


@pytest.mark.parametrize(
    ("env", "warning"),
    [
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "collector:4318"}, "must start with http"),
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER"),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf",
        ),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_BSP_MAX_QUEUE_SIZE": "1"}, "OTEL_* variables"),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_BSP_MAX_QUEUE_SIZE": "many"}, "OTEL_* variables"),
    ],
)
def test_what_cannot_be_done_is_one_warning(make_model, env, warning):
    with running(MODEL_URL=make_model().as_uri(), **env) as service:
        service.wait()
        assert predict(service) == 200
        (shown,) = warnings_of(service)
    assert shown.startswith("traces are not exported: ")
    assert warning in shown


OFF = [
    {},
    {"OTEL_SERVICE_NAME": "pets"},
    {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_SDK_DISABLED": "True"},
    {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9", "OTEL_TRACES_EXPORTER": "none"},
    {"OTEL_EXPORTER_OTLP_ENDPOINT": " "},
]

_REPORTING = """
import os, sys, threading
from app.__main__ import main

{prelude}
code = main([])
print("loaded", sorted(name for name in sys.modules if name.startswith(("opentelemetry", "google"))))
print("threads", sorted(thread.name for thread in threading.enumerate() if "Otel" in thread.name))
sys.exit(code)
"""


@pytest.mark.parametrize("env", OFF)
def test_nothing_of_it_is_loaded_unless_it_is_wanted(make_model, env):
    # It ends without the two lines while it still loads something, such as pillow_heif.
    command = (sys.executable, "-c", _REPORTING.format(prelude="sys.modules['pillow_heif'] = None"))
    with running(command=command, MODEL_URL=make_model().as_uri(), LOG_FORMAT="text", **env) as service:
        service.wait()
        assert predict(service, traceparent=VALID) == 200
        code, output, error = service.end()
    assert (code, error) == (0, "")
    assert output.splitlines()[-2:] == ["loaded []", "threads []"]


def test_without_opentelemetry_one_warning_says_what_to_install(make_model):
    absent = "sys.modules['opentelemetry'] = None"  # as if it weren't installed
    command = (sys.executable, "-c", _REPORTING.format(prelude=absent))
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"}
    with running(command=command, MODEL_URL=make_model().as_uri(), LOG_FORMAT="text", **endpoint) as service:
        service.wait()
        assert predict(service, traceparent=VALID) == 200
        code, output, error = service.end()
    assert (code, error) == (0, "")
    warnings = [line for line in output.splitlines() if " warning " in line]
    assert len(warnings) == 1
    assert "pip install -r requirements-otel.txt" in warnings[0]
    assert f"trace_id={TRACE}" in output
