"""make's environment: which Python it takes, what a failure leaves, what the requirements files pin."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import SLOW
from tests.helpers.paths import ROOT

REQUIREMENTS = sorted(ROOT.glob("requirements*.txt"))
HASHED = [ROOT / f"requirements{use}.txt" for use in ("", "-otel", "-heic", "-release", "-deploy", "-uv")]
# A Python of that version. The probe runs in the real one; an environment gets a copy of this script, and its
# `pip install` of requirements-uv.txt copies the stand-in for uv.
PYTHON = f"""#!/bin/sh
case "$1 $2" in
"-m venv") mkdir -p "$3/bin" && cp "$0" "$3/bin/python" ;;
"-m pip")
  case "$*" in
  *requirements-uv.txt) cp ../uv .venv/bin/uv ;;
  esac ;;
*)
  [ "$1" != -c ] || set -- -c "import sys; sys.executable = '$0'; sys.version_info = (3, VERSION); WITHOUT$2"
  exec {sys.executable} "$@" ;;
esac
"""
UV = """#!/bin/sh
case "$1" in
venv)
  for folder; do :; done
  mkdir -p "$folder/bin" && printf '#!/bin/sh\\n' >"$folder/bin/python" && chmod +x "$folder/bin/python" ;;
pip)
  echo "uv $*" >>../calls
  exit "${UV_CODE:-0}" ;;
esac
"""


def write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


class Checkout:
    """A checkout in a folder with a blank in its name, and a PATH with what `python` and `uv` add to it."""

    def __init__(self, folder: Path) -> None:
        self.root, self.bin, self._calls = folder / "a checkout", folder / "bin", folder / "calls"
        (self.root / "scripts").mkdir(parents=True)
        self.bin.mkdir()
        write(folder / "uv", UV)
        for file in (ROOT / "Makefile", *REQUIREMENTS):
            shutil.copy(file, self.root)
        shutil.copy(ROOT / "scripts" / "environment.sh", self.root / "scripts")
        for tool in (
            "sh",
            "make",
            "cat",
            "cp",
            "chmod",
            "dirname",
            "mkdir",
            "rm",
            "sed",
            "tail",
            "touch",
            "echo",
        ):
            (self.bin / tool).symlink_to(str(shutil.which(tool)))

    def python(self, name: str, version: int, venv: bool = True) -> None:
        """Add a Python 3.{version} under that name; without `venv` it lacks ensurepip, as Debian's does."""
        without = "" if venv else "sys.modules['ensurepip'] = None"
        write(self.bin / name, PYTHON.replace("VERSION", str(version)).replace("WITHOUT", without))

    def uv(self) -> None:
        """Put uv on the PATH."""
        shutil.copy(self.root.parent / "uv", self.bin)

    def make(self, *arguments: str, **env: str) -> tuple[int, str]:
        """Run make; return its exit code and what it printed."""
        done = subprocess.run(
            ["make", *arguments], cwd=self.root, capture_output=True, text=True, timeout=60,
            env={"PATH": str(self.bin), "HOME": str(self.root.parent)} | env,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    def calls(self) -> list[str]:
        """What uv was called with so far."""
        return self._calls.read_text().splitlines() if self._calls.exists() else []


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def errors(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("error:")]


@pytest.mark.parametrize(
    ("pythons", "taken"),
    [
        ({"python3.14": 14, "python3.12": 12, "python3": 13}, "python3.12"),
        ({"python3": 10, "python": 14}, "python"),
        ({"python3": 15, "python": 9, "py": 13}, "py"),
    ],
)
def test_the_first_python_that_fits_is_taken(checkout: Checkout, pythons, taken) -> None:
    for name, version in pythons.items():
        checkout.python(name, version)
    write(
        checkout.bin / "python3.11", "#!/bin/sh\necho 'pyenv: python3.11: command not found' >&2\nexit 127\n"
    )
    code, text = checkout.make(".venv/.serve")
    assert code == 0, text
    assert (checkout.root / ".venv/bin/python").read_text() == (checkout.bin / taken).read_text()
    assert checkout.calls() == ["uv pip install --quiet --python .venv/bin/python -r requirements.txt"]
    assert (checkout.root / ".venv/.serve").exists()
    assert not (checkout.root / ".venv/.installing").exists()


def test_python_can_be_named(checkout: Checkout) -> None:
    checkout.python("python3.11", 11)
    checkout.python("mine", 13)
    assert checkout.make(".venv/.serve", "PYTHON=mine")[0] == 0
    assert (checkout.root / ".venv/bin/python").read_text() == (checkout.bin / "mine").read_text()


@pytest.mark.parametrize(
    ("python", "venv", "named", "message"),
    [
        (10, True, "", "no Python 3.11 to 3.14 found: install one"),
        (10, True, "python3", "PYTHON=python3 is not Python 3.11 to 3.14"),
        (13, True, "nonsense", "PYTHON=nonsense is not Python 3.11 to 3.14"),
        (13, False, "", "apt install python3-venv"),
    ],
)
def test_one_line_says_what_to_install(checkout: Checkout, python, venv, named, message) -> None:
    checkout.python("python3", python, venv)
    code, text = checkout.make(".venv/.serve", *([f"PYTHON={named}"] if named else []))
    assert code != 0
    assert len(errors(text)) == 1
    assert message in errors(text)[0]
    assert not (checkout.root / ".venv").exists()


def test_uv_that_is_there_is_used(checkout: Checkout) -> None:
    checkout.python("python3", 13, venv=False)  # uv needs neither venv nor ensurepip
    checkout.uv()
    code, text = checkout.make(".venv/.serve")
    assert code == 0, text
    assert not (checkout.root / ".venv/bin/uv").exists()
    assert len(checkout.calls()) == 1


@pytest.mark.parametrize("layer", ["serve", "release"])
def test_a_failed_environment_is_removed(checkout: Checkout, layer) -> None:
    checkout.python("python3", 13)
    assert checkout.make(".venv/.serve")[0] == 0
    (checkout.root / ".venv/.serve").unlink()
    code, text = checkout.make(f".venv/.{layer}", UV_CODE="2")
    assert code != 0
    assert errors(text) == ["error: .venv could not be completed and was removed: run make again"]
    assert not (checkout.root / ".venv").exists()
    assert checkout.make(f".venv/.{layer}")[0] == 0


@pytest.mark.parametrize("rest", ["killed", "no interpreter"])
def test_a_broken_environment_is_made_again(checkout: Checkout, rest) -> None:
    checkout.python("python3", 13)
    assert checkout.make(".venv/.serve")[0] == 0
    (checkout.root / ".venv/of the old one").touch()
    if rest == "killed":
        with subprocess.Popen(["true"]) as ended:
            pass
        (checkout.root / ".venv/.installing").write_text(f"{ended.pid}\n")
        (checkout.root / ".venv/.serve").unlink()
    else:
        (checkout.root / ".venv/bin/python").unlink()
    assert checkout.make(".venv/.serve")[0] == 0
    assert not (checkout.root / ".venv/of the old one").exists()
    assert (checkout.root / ".venv/.serve").exists()


def test_two_installations_at_once(checkout: Checkout) -> None:
    checkout.python("python3", 13)
    assert checkout.make(".venv/.serve")[0] == 0
    (checkout.root / ".venv/.installing").write_text(f"{os.getpid()}\n")
    code, text = checkout.make(".venv/.release")
    assert code != 0
    assert f"process {os.getpid()} is installing into .venv" in text
    assert (checkout.root / ".venv/.serve").exists()


def test_pip_s_index_is_uv_s_too(checkout: Checkout) -> None:
    checkout.python("python3", 13)
    write(checkout.root.parent / "uv", UV.replace("uv $*", "$UV_DEFAULT_INDEX"))
    assert checkout.make(".venv/.serve", PIP_INDEX_URL="https://index.example.org/simple")[0] == 0
    assert checkout.calls() == ["https://index.example.org/simple"]


def test_the_system_s_certificates_are_uv_s_too(checkout: Checkout) -> None:
    """In a network whose proxy has a certificate of its own, pip works; uv has to, too."""
    checkout.python("python3", 11)
    write(checkout.root.parent / "uv", UV.replace("uv $*", "${UV_SYSTEM_CERTS:-own}"))
    assert checkout.make(".venv/.serve")[0] == 0
    stores = (
        "ssl/certs/ca-certificates.crt",
        "pki/tls/certs/ca-bundle.crt",
        "ssl/ca-bundle.pem",
        "ssl/cert.pem",
    )
    found = sys.platform != "linux" or any(Path("/etc", store).exists() for store in stores)
    assert checkout.calls() == ["true" if found else "own"]


def test_cpu_builds_of_torch(checkout: Checkout) -> None:
    checkout.python("python3", 13)
    write(checkout.root.parent / "uv", UV.replace("uv $*", "$UV_TORCH_BACKEND $*"))
    assert checkout.make(".venv/.dev", "UV_TORCH_BACKEND=cpu")[0] == 0
    assert checkout.calls() == ["cpu pip install --quiet --python .venv/bin/python -r requirements-dev.txt"]
    for path in REQUIREMENTS:  # they would be installed beside a build without CUDA
        assert not re.search(r"^(cuda|nvidia|triton==)", path.read_text(), re.MULTILINE)


def pins(path: Path) -> dict[str, str]:
    return dict(re.findall(r"^([\w.-]+)==([^\s;]+)", path.read_text(), re.MULTILINE))


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.name)
def test_everything_is_pinned_and_no_index_is_named(path: Path) -> None:
    text = path.read_text()
    assert not re.search(r"https?://|^-", text, re.MULTILINE)
    assert pins(path)
    every = pins(ROOT / "requirements-dev.txt")
    assert {name: version for name, version in pins(path).items() if name not in {"colorama"}} == {
        name: every[name] for name in pins(path) if name not in {"colorama"}
    }
    for line in text.splitlines():
        assert re.match(r"[\w.-]+==|\s+--hash=sha256:[0-9a-f]{64}|\s*#|$", line), line


@pytest.mark.parametrize("path", HASHED, ids=lambda path: path.name)
def test_what_serves_and_what_releases_is_hashed(path: Path) -> None:
    hashed = re.findall(
        r"^([\w.-]+)==.*\\\n(?: +--hash=sha256:[0-9a-f]{64}(?: \\)?\n)+", path.read_text(), re.MULTILINE
    )
    assert sorted(hashed) == sorted(pins(path))


def test_the_project_cannot_be_installed(tmp_path: Path) -> None:
    project, target = tmp_path / "project", tmp_path / "target"
    for folder in ("app", "ml"):
        (project / folder).mkdir(parents=True)
        shutil.copy(ROOT / folder / "__init__.py", project / folder)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, project)
    pip = [sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--no-build-isolation"]
    done = subprocess.run(
        [*pip, "--target", target, "."], cwd=project, capture_output=True, text=True, timeout=100
    )
    assert done.returncode != 0
    assert "Multiple top-level packages" in done.stdout + done.stderr
    assert not target.exists()


def test_slow_test_files_are_there() -> None:
    assert {name for name in SLOW if not (ROOT / "tests" / name.partition("::")[0]).is_file()} == set()
