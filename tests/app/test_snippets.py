"""The snippets of docs/clients.md that call a service: each is run as it is, against a real one."""

import base64
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import needs
from tests.helpers.chromium import opened
from tests.helpers.paths import ROOT
from tests.helpers.service import Service, running

if TYPE_CHECKING:
    from playwright.sync_api import Browser

URL = "http://localhost:8080"
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", (ROOT / "docs/clients.md").read_text("utf-8"), re.DOTALL)
NAMES = ("curl", "client", "python", "browser", "node")
SNIPPETS = dict(zip(NAMES, [code for _, code in BLOCKS if URL in code], strict=True))
CAT = ROOT / "tests/photos/cat.jpg"


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running() as service:
        service.wait()
        yield service


def snippet(name: str, service: Service) -> str:
    return SNIPPETS[name].replace(URL, f"http://127.0.0.1:{service.port}")


def output(command: list[str], folder: Path) -> str:
    shutil.copy(CAT, folder / "photo.jpg")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@needs("curl")
def test_curl(service: Service, tmp_path: Path) -> None:
    assert '"label":"cat"' in output(["sh", "-c", snippet("curl", service)], tmp_path)


@pytest.mark.parametrize("name", ["client", "python"])
def test_python(service: Service, tmp_path: Path, name: str) -> None:
    shutil.copytree(ROOT / "client/photo_classifier", tmp_path / "photo_classifier")
    (tmp_path / "snippet.py").write_text(snippet(name, service), "utf-8")
    assert output([sys.executable, "snippet.py"], tmp_path).startswith("cat {'cat': ")


def test_triton(service: Service, tmp_path: Path) -> None:
    pytest.importorskip("tritonclient.http", reason="tritonclient is not installed")
    (code,) = (code for _, code in BLOCKS if "tritonclient" in code)
    (tmp_path / "snippet.py").write_text(code.replace("localhost:8080", f"127.0.0.1:{service.port}"), "utf-8")
    assert output([sys.executable, "snippet.py"], tmp_path).startswith("[b'cat'] [[")


@needs("node")
def test_node(service: Service, tmp_path: Path) -> None:
    (tmp_path / "snippet.mjs").write_text(snippet("node", service), "utf-8")
    assert output([shutil.which("node") or "", "snippet.mjs"], tmp_path).startswith("cat { cat: ")


def test_browser(service: Service, browser: "Browser") -> None:
    make_photo = (
        """text => new File([Uint8Array.from(atob(text), byte => byte.charCodeAt(0))], "photo.jpg")"""
    )
    with opened(browser, service.port) as page:
        printed: list[str] = []
        page.on("console", lambda message: printed.append(message.text))
        script = f"async text => {{ const photo = ({make_photo})(text);\n{snippet('browser', service)} }}"
        page.evaluate(script, base64.b64encode(CAT.read_bytes()).decode())
        page.wait_for_timeout(0)
    assert len(printed) == 1
    assert printed[0].startswith("cat ")
