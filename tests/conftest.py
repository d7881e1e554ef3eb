"""Photos and models made on the spot."""

import gc
import io
import os
import pickle
import shutil
import signal
import ssl
import sys
import tempfile
import zipfile
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping
from multiprocessing.util import Finalize
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from ml.model.manifest import Manifest
from scripts.common import process

ROOT = Path(__file__).parents[1]
REQUIRE_ALL = bool(os.environ.get("REQUIRE_ALL"))  # where set, nothing may be skipped for what is missing
NOT_INSTALLED = "not installed: "
CONTAINERS = "podman or docker"
SIZE = 32

# Test files, or tests (FILE::NAME), that `make check` leaves out: they train, build images, drive browsers,
# fuzz, or wait for servers. `make test-other-python` leaves them out too. `make check` prints the slowest of
# the others; the marker `slow` leaves out one more test.
SLOW = {
    "app/collecting/test_stores.py",
    "app/http/test_binding.py",
    "app/http/test_drain.py",
    "app/http/test_first_line.py",
    "app/http/test_server.py",
    "app/http/test_wire_attacks.py",
    "app/http/test_wire_limits.py::test_an_attacker_that_holds_nearly_all_bytes_costs_no_slow_honest_upload",
    "app/http/test_wire_limits.py::test_little_is_kept_of_what_cannot_be_answered_yet",
    "app/inference/test_bad_networks.py",
    "app/inference/test_copies.py::test_the_longer_side_of_a_copy_is_limited",
    "app/inference/test_decoding.py::test_a_photo_that_takes_too_long_frees_its_worker_and_is_counted",
    "app/inference/test_decoding.py::test_the_time_in_the_sandbox_counts_for_the_request",
    "app/inference/test_loading.py",
    "app/inference/test_evidence.py",
    "app/inference/test_model_description.py",
    "app/routes/test_api_docs.py::test_the_service_matches_its_description",
    "app/routes/test_page_accessibility.py",
    "app/routes/test_page_answers.py",
    "app/routes/test_page_browser.py",
    "app/routes/test_page_collecting.py",
    "app/routes/test_page_sending.py",
    "app/routes/test_page_sources.py",
    "app/routes/test_page_unknown.py",
    "app/telemetry/test_drifted_photos.py",
    "app/telemetry/test_push.py",
    "app/telemetry/test_tracing.py",
    "app/test_fuzz.py",
    "app/test_process.py",
    "app/test_snippets.py",
    "client/test_client.py",
    "deploy/canary/test_docker_canary.py",
    "deploy/canary/test_real_canary.py",
    "deploy/canary/test_targets.py",
    "deploy/test_attestation.py",
    "deploy/test_cloud_run.py",
    "deploy/test_compose.py::test_the_app_alone",
    "deploy/test_container_image.py",
    "deploy/test_containers.py",
    "deploy/test_every_target.py",
    "deploy/test_gateway.py",
    "deploy/test_haproxy.py",
    "deploy/test_kubernetes.py",
    "deploy/test_kubernetes_manifests.py::test_the_deployment_s_pod_runs_and_answers",
    "deploy/test_render.py",
    "ml/audit/test_page_browser.py",
    "ml/audit/test_suspects.py",
    "ml/data/test_ray_decoding.py",
    "ml/data/test_remote.py::test_one_request_per_photo",
    "ml/evaluation/test_probe.py",
    "ml/model/sandbox/test_sandbox.py::test_the_memory_that_a_structure_states_is_enough",
    "ml/model/test_allocator.py",
    "ml/model/test_libraries.py",
    "ml/packaging/test_stability.py",
    "ml/registry/test_mlflow_model.py",
    "ml/registry/test_names.py",
    "ml/registry/test_register.py",
    "ml/reporting/test_pipeline_report.py",
    "ml/review/test_export.py::test_the_printed_commands_track_the_photos",
    "ml/review/test_review_browser.py",
    "ml/scoring/test_ray_engine.py",
    "ml/scoring/test_score_command.py::test_a_run_that_is_killed_at_any_moment_goes_on",
    "ml/scoring/test_score_command.py::test_memory_does_not_depend_on_the_number_of_photos",
    "ml/test_full_disk.py",
    "ml/test_pipeline.py",
    "ml/tracking/test_store.py",
    "ml/training/test_budget.py",
    "ml/training/test_looks.py",
    "ml/training/test_loop.py",
    "ml/training/test_processes.py",
    "ml/training/test_unfamiliar.py",
    "monitoring/test_alertmanager.py",
    "monitoring/test_alerts_fire.py",
    "monitoring/test_compose_stack.py",
    "monitoring/test_cost.py",
    "monitoring/test_dashboards.py",
    "monitoring/test_report.py",
    "monitoring/test_rules.py",
    "monitoring/test_scraping.py",
    "monitoring/test_several_instances.py",
    "project/test_command_lines.py",
    "project/test_default_model.py",
    "project/test_docs.py",
    "project/test_missing_tools.py",
    "project/test_new_classes.py",
    "release/test_gate.py",
    "release/test_publish.py",
    "release/test_releases.py",
    "scripts/fleet/test_comparing.py",
    "scripts/fleet/test_planning.py",
    "scripts/fleet/test_simulation.py",
    "scripts/test_bench.py",
    "scripts/test_bench_predict.py",
    "scripts/test_collect_predictions.py",
    "scripts/test_comparison.py",
    "scripts/test_growth.py",
    "scripts/test_load.py",
    "scripts/test_loop.py",
    "scripts/test_recording.py",
    "scripts/test_smoke_test.py",
    "scripts/test_traffic.py",
    "scripts/test_wire_attacks.py",
    "scripts/test_without_git.py",
}


def pytest_configure(config: pytest.Config) -> None:
    """Make a folder for what killed processes leave behind, and remove it at the end."""
    if worker := getattr(config, "workerinput", None):  # of xdist; it gets the folder of its parent
        # Each chooses from ports of its own, or two could choose the same free one at the same time. What it
        # starts chooses from all.
        size = len(process.PORTS) // worker["workercount"]
        process.PORTS = process.PORTS[int(worker["workerid"].removeprefix("gw")) * size :][:size]
        return
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # in all processes: tests keep the CPUs busy
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())  # tmp_path of failed tests stays
    folder = tempfile.mkdtemp(prefix="tests-")
    os.environ["TMPDIR"], tempfile.tempdir = folder, None
    # At the end of the process, after multiprocessing has removed its own folder in there (-100).
    Finalize(None, shutil.rmtree, (folder, True), exitpriority=-200)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """One test file more than CPUs at a time, since tests also wait; each may take 2 GB of memory."""
    return min((os.cpu_count() or 2) + 1, 5)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Spare the collector of garbage what is imported with the tests.

    All of it stays until the end, and is so much that walking through it again and again would take a fifth
    of the time of some tests. What tests leave behind is collected as always.
    """
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Do not even import the files that `make check` leaves out."""
    if config.getoption("markexpr") == "not slow" and collection_path.is_relative_to(ROOT / "tests"):
        return collection_path.relative_to(ROOT / "tests").as_posix() in SLOW or None
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what SLOW lists."""
    for item in items:
        if item.path.is_relative_to(ROOT / "tests"):
            file = item.path.relative_to(ROOT / "tests").as_posix()
            if SLOW & {file, f"{file}::{getattr(item, 'originalname', item.name)}"}:
                item.add_marker(pytest.mark.slow)


# Fabric and DVC must find no store or server of the person who runs the tests.
os.environ.pop("MLFLOW_TRACKING_URI", None)
os.environ["NO_GCE_CHECK"] = "true"  # nor may Google's library look for credentials in the network
# What a shell without job control runs in its background has SIGINT ignored, and processes inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def own_store() -> Iterator[None]:
    """Undo `mlflow.set_tracking_uri`, which otherwise holds for the later tests of this process."""
    mlflow = sys.modules.get("mlflow")
    before = mlflow.get_tracking_uri() if mlflow and mlflow.is_tracking_uri_set() else None
    yield
    if mlflow := sys.modules.get("mlflow"):
        mlflow.set_tracking_uri(before)


def needs(*commands: str) -> pytest.MarkDecorator:
    """Skip the test if one of these commands is not installed."""
    missing = [command for command in commands if not shutil.which(command)]
    return pytest.mark.skipif(bool(missing) and not REQUIRE_ALL, reason=not_installed(*missing))


def not_installed(*commands: str) -> str:
    """The reason with which a test is skipped, as the summary at the end of the run counts it."""
    return f"{NOT_INSTALLED}{', '.join(commands)}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say which tools are missing, how many tests were skipped for each, and how to get the tools."""
    skipped = [report.longrepr for report in terminalreporter.stats.get("skipped", [])]
    reasons = [str(place[2]) for place in skipped if isinstance(place, tuple)]
    tools = Counter(
        tool
        for reason in reasons
        if NOT_INSTALLED in reason
        for tool in reason.partition(NOT_INSTALLED)[2].split(", ")
    )
    if not tools:
        return
    terminalreporter.section("tests skipped because a tool is missing")
    for tool, count in sorted(tools.items()):
        terminalreporter.line(f"{tool:<24} {count:>3} {'test' if count == 1 else 'tests'}")
    if any(tool != CONTAINERS for tool in tools):
        terminalreporter.line("On Debian and Ubuntu, scripts/install_test_tools.sh installs the tools.")
    if CONTAINERS in tools:
        terminalreporter.line("For tests of the image, install podman (apt-get install podman) or Docker.")
    terminalreporter.line(
        "Elsewhere, install each tool by its name. REQUIRE_ALL=1 makes a missing tool an error."
    )


def encode(pixels: np.ndarray, form: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, form, **options)
    return buffer.getvalue()


def coloured(colour: tuple[int, int, int], width: int = 60, height: int = 40, seed: int = 0) -> np.ndarray:
    """A noisy picture of one colour, [height, width, 3]; its pattern depends on the seed."""
    random = np.random.default_rng(seed)
    coarse = random.integers(-60, 60, (5, 7, 1))
    pattern = np.kron(coarse, np.ones((-(-height // 5), -(-width // 7), 1)))[:height, :width]
    return np.clip(np.array(colour) + pattern, 0, 255).astype(np.uint8)


RED, BLUE = (200, 70, 70), (70, 70, 200)


def colour_graph(size: int = SIZE, outputs: int = 2, weight: float = 0.05) -> bytes:
    """An ONNX model that predicts by the share of red against blue; a larger weight makes it more certain."""
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["float", "axes"], ["rgb"], keepdims=0),
        helper.make_node("MatMul", ["rgb", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    weights = np.zeros((3, outputs), np.float32)
    weights[0, 0], weights[2, 1] = weight, weight
    graph = helper.make_graph(
        nodes,
        "colour",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", size, size, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", outputs])],
        [
            onnx.numpy_helper.from_array(np.array([1, 2], np.int64), "axes"),
            onnx.numpy_helper.from_array(weights, "weights"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return model.SerializeToString()


def manifest(**changes: object) -> dict[str, object]:
    return (
        Manifest(
            arch="simple_cnn",
            classes=("red", "blue"),
            image_size=SIZE,
            resize="center_crop",
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
            temperature=1.0,
            metrics={"accuracy": 0.99},
            created="2026-01-01T00:00:00+00:00",
            version="test-1",
        ).to_dict()
        | changes
    )


@pytest.fixture
def make_model(tmp_path: Path) -> Callable[..., Path]:
    """Write a model.pt by hand, with no torch; each part can be made bad."""
    import json

    def make(
        name: str = "model.pt",
        data_pkl: bytes | None = None,
        graph: bytes | None = None,
        card: bytes | None = None,
        examples: Mapping[str, bytes] | None = None,
        **changes: object,
    ) -> Path:
        path = tmp_path / name
        description = manifest(**changes)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", data_pkl or pickle.dumps(description, protocol=2))
            archive.writestr("archive/extra/model.json", json.dumps(description))
            archive.writestr("archive/extra/model.onnx", graph or colour_graph())
            if card is not None:
                archive.writestr("archive/extra/README.md", card)
            for number, photo in (examples or {}).items():
                archive.writestr(f"archive/extra/examples/{number}.jpg", photo)
        return path

    return make


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A certificate for 127.0.0.1 that clients in this process, and those it starts, trust."""
    from tests.helpers.tls import certificate, context

    pem = certificate(tmp_path)
    for variable in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(variable, str(pem))
    return context(pem)


@pytest.fixture(scope="session")
def image() -> str:
    """The container image of this checkout, built once; its id."""
    from tests.helpers.container import build

    return build()
