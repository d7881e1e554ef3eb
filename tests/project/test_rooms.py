"""Which package may import which: the layers of the service, and the borders between packages."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.paths import ROOT

APP_LAYERS = (
    *("__main__", "__init__", "routes", "service", "http"),
    *("collecting", "inference", "model_source", "telemetry", "photos", "settings", "memory", "parsers"),
)
"""Subpackages and modules of app: each imports only from those further right."""


def modules_of(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def imports(file: Path) -> Iterator[str]:
    """Dotted names of the modules that a file imports, anywhere in it."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            assert node.module
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                path = ROOT / Path(*name.split("."))
                yield name if path.is_dir() or path.with_suffix(".py").is_file() else node.module


def room(package: str, module: str) -> str:
    """The subpackage or module of a package that a dotted name belongs to; `__init__`: the package."""
    return (module.removeprefix(package) + ".__init__").split(".")[1]


def room_imports(package: str) -> dict[str, set[str]]:
    """For each room of a package, the other rooms that it imports."""
    graph: dict[str, set[str]] = {}
    for file in modules_of(package):
        parts = file.relative_to(ROOT / package).with_suffix("").parts
        own = graph.setdefault(parts[0], set())
        for name in imports(file):
            if name.split(".")[0] == package:
                own.add(room(package, name))
    return {name: others - {name} for name, others in graph.items()}


def test_each_room_of_the_service_imports_only_lower_ones() -> None:
    graph = room_imports("app")
    assert set(graph) == {*APP_LAYERS, "healthcheck"}
    assert graph.pop("healthcheck") == set()  # the image's health check starts twice a minute
    for name, others in graph.items():
        lower = APP_LAYERS[APP_LAYERS.index(name) + 1 :]
        assert others <= set(lower), f"app.{name} imports {sorted(others - set(lower))}"


@pytest.mark.parametrize("package", ["app", "ml", "release", "deploy"])
def test_rooms_have_no_circle(package: str) -> None:
    graph = room_imports(package)
    while leaves := {name for name, others in graph.items() if not others & set(graph)}:
        graph = {name: others for name, others in graph.items() if name not in leaves}
    assert not graph, f"circle among {graph}"


@pytest.mark.parametrize(
    ("package", "allowed"),
    [
        ("app", {"app", "ml.model"}),
        ("ml/model", {"ml.model"}),
        ("ml", {"ml"}),
        ("release", {"release", "ml"}),
        ("deploy", {"deploy", "ml", "monitoring"}),
        ("monitoring", {"monitoring", "ml"}),
    ],
)
def test_what_a_package_imports_of_this_repository(package: str, allowed: set[str]) -> None:
    own = {path.name for path in ROOT.iterdir() if (path / "__init__.py").is_file()} | {"tests"}
    for file in modules_of(package):
        for name in imports(file):
            if name.split(".")[0] in own:
                assert any(f"{name}.".startswith(f"{prefix}.") for prefix in allowed), f"{file}: {name}"


def test_only_the_http_package_knows_waitress() -> None:
    for file in modules_of("app"):
        if file.parent != ROOT / "app" / "http":
            assert not [name for name in imports(file) if name.split(".")[0] == "waitress"], file


def test_production_code_does_not_import_tests() -> None:
    users = {
        str(file.relative_to(ROOT))
        for package in ("app", "deploy", "ml", "monitoring", "release", "scripts")
        for file in modules_of(package)
        if any(name.split(".")[0] == "tests" for name in imports(file))
    }
    assert users == set()
