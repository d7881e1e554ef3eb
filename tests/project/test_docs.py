"""The documents: where links lead, and whether what they tell to run runs."""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from ml.model import bundle
from tests.helpers.checkout import copied
from tests.helpers.paths import ROOT
from tests.helpers.service import running
from tests.helpers.waiting import HANG_S, until

DOCUMENTS = [
    ROOT / name
    for name in subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
]
TESTED = re.compile(
    r"^ *<!-- tested -->\n+"
    r"(?:```(?P<language>sh|python)\n(?P<fenced>[\s\S]*?)^```|(?P<shell>(?: {4}.*\n|\n(?= {4}))+))",
    re.MULTILINE,
)
"""A block after that comment: fenced, or indented and then for the shell. It runs in a copy of the
repository, with a service at localhost:8080 and as URL. If lines begin with $, the others are output."""
CAT = ROOT / "tests" / "photos" / "cat.jpg"


def links(text: str) -> list[str]:
    """Targets of links and pictures, but for those in code."""
    prose = re.sub(r"^(?: {4}|```[\s\S]*?^```).*$|`[^`\n]*`", "", text, flags=re.MULTILINE)
    return re.findall(r"\]\(([^)\s]+)\)", prose)


def anchors(text: str) -> set[str]:
    """As GitHub makes them from headings."""
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def blocks() -> list[tuple[str, str, str]]:
    return [
        (path.name, block["language"] or "sh", block["fenced"] or dedent(block["shell"]))
        for path in DOCUMENTS
        for block in TESTED.finditer(path.read_text("utf-8"))
    ]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_relative_links_lead_somewhere(path: Path) -> None:
    text = path.read_text("utf-8")
    for link in links(text):
        if re.match(
            r"[a-z]+:|\.\./\.\./(actions|releases)/", link
        ):  # elsewhere; GitHub's pages of this repository
            continue
        target, _, anchor = link.partition("#")
        other = path.parent / target if target else path
        assert other.exists(), link
        if anchor:
            assert anchor in anchors(other.read_text("utf-8")), link


def test_paths_that_are_named_are_there() -> None:
    """In backticks, with a folder that is in the repository's root and no placeholder."""
    folders = {path.name for path in ROOT.iterdir() if path.is_dir()} - {"data", "models", "reports"}
    for document in {*DOCUMENTS} - {ROOT / "CHANGELOG.md"}:  # which names what was there
        for name in re.findall(r"`([\w.-]+/[\w./-]*)`", document.read_text("utf-8")):
            if name.partition("/")[0] in folders and not re.search("NAME|TAG", name):
                assert (ROOT / name).exists(), f"{document.name}: {name}"


@pytest.mark.parametrize(("document", "language", "block"), blocks())
def test_what_is_said_to_run_runs(document: str, language: str, block: str, tmp_path: Path) -> None:
    for tool in ("kubectl", "promtool", "amtool"):
        if re.search(rf"\b{tool} ", block) and not shutil.which(tool):
            pytest.skip(f"needs {tool}")
    commands = re.findall(r"^\$ (.*\n)", block, re.MULTILINE)
    project = copied(tmp_path / "project")
    shutil.copy(CAT, project / "photo.jpg")
    store = tmp_path / "store"
    with running(COLLECT_TO=str(store), COLLECT_CONSENT="always", COLLECT_RANDOM="1") as service:
        service.wait()
        service.predict(CAT.read_bytes())
        until(lambda: list(store.glob("*/*.json")))
        script = "".join(commands) or block
        for name, here in (
            ("/tmp/", f"{tmp_path}/"),
            ("localhost:8080", f"127.0.0.1:{service.port}"),
            ("/srv/photos", store),
        ):
            script = script.replace(name, str(here))
        shell = ["bash", "-euo", "pipefail", "-c"]
        done = subprocess.run(
            [*(shell if language == "sh" else [sys.executable, "-c"]), script], cwd=project,
            capture_output=True, text=True, timeout=HANG_S,
            env={
                "PATH": f"{Path(sys.executable).parent}:/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path),
                "URL": f"http://127.0.0.1:{service.port}", "PYTHONPATH": str(project / "client"),
            },
        )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_some_blocks_are_tested() -> None:
    found = {(document, language) for document, language, _ in blocks()}
    assert {("README.md", "sh"), ("README.md", "python"), ("RUNBOOK.md", "sh"), ("clients.md", "sh")} <= found


def test_the_model_card_is_the_default_model_s() -> None:
    card = bundle.read(ROOT / "app/default/model.pt").card
    assert card
    assert (ROOT / "docs/MODEL_CARD.md").read_text("utf-8") == card
