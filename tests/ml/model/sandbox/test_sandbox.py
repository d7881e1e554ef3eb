"""Whatever a decoder does, it takes no more than the stated memory and time, and the next photo works."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ml.model import decoder
from ml.model.errors import BrokenImageError, TooCostlyError
from ml.model.formats import Structure, inspect
from scripts.common.pictures import encoded
from scripts.stress.heif import HEIC_INSTALLED
from tests.conftest import RED, coloured, encode
from tests.helpers.bitmaps import bitmap
from tests.helpers.paths import ROOT
from tests.helpers.photo_files import deep_png
from tests.helpers.waiting import HANG_S, until

sandbox = pytest.importorskip("ml.model.sandbox.sandbox")
messages = pytest.importorskip("ml.model.sandbox.messages")
if not sandbox.AVAILABLE:
    pytest.skip("this system has no fork", allow_module_level=True)

LIMIT = 10**8
MB = 1 << 20
PHOTO = inspect(encode(coloured(RED, 96, 64), "PNG"), LIMIT)

HOSTILE = """
import ctypes, os, signal, time
from ml.model import decoder
from ml.model.errors import BrokenImageError

good = decoder.square

def loop():
    while True: pass

def loop_deaf_to_signals():
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.NSIG))
    loop()

def sleep():
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    time.sleep(10_000)

def allocate():
    hoard = []
    while True: hoard.append(bytearray(b"x" * (1 << 20)))

def allocate_in_c():
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    while (block := libc.malloc(1 << 20)): ctypes.memset(block, 1, 1 << 20)
    os.abort()

def hoard():
    kept = []
    try:
        while True: kept.append(bytearray(b"x" * (1 << 20)))
    except MemoryError:
        kept.clear()
        status = open("/proc/self/status").read()
        raise BrokenImageError(status.split("VmHWM:")[1].split()[0])

class Bytes(bytes):
    def tobytes(self): return self

def few_pixels():
    return Bytes(b"abc")

def long_message():
    raise BrokenImageError("long " * 500)

def lie():
    pass

def no_files():
    raise OSError(24, "Too many open files")

def crash():
    os.kill(os.getpid(), signal.SIGSEGV)

def leave():
    os._exit(3)

def variables():
    raise BrokenImageError(" ".join(os.environ))

def square(photo, size, resize):
    if photo.width == 1:
        if answer := globals()[os.environ["PYTHON_HOSTILE"]]():
            return answer
    return good(photo, size, resize)

if "PYTHON_CPU_S" in os.environ:
    import resource, types
    stated = types.SimpleNamespace(ru_utime=float(os.environ["PYTHON_CPU_S"]), ru_stime=0.0)
    resource.getrusage = lambda who: stated

decoder.square = square
"""
"""A module that Python imports when the zygote starts; photos that are one pixel wide are then hostile."""


@pytest.fixture
def hostile(tmp_path, monkeypatch) -> Callable[[str], None]:
    def install(behaviour: str) -> None:
        (tmp_path / "sitecustomize.py").write_text(HOSTILE)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.setenv("PYTHON_HOSTILE", behaviour)

    return install


@pytest.fixture
def hostile_photo():
    return inspect(encode(coloured(RED, 1, 1), "PNG"), LIMIT)


def decoded(box, photo=PHOTO, seconds: float = HANG_S) -> np.ndarray:
    rgb, cpu_s = box.decode(photo, 32, "center_crop", seconds)
    assert cpu_s >= 0
    return np.frombuffer(rgb, np.uint8).reshape(32, 32, 3)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF"])
def test_the_pixels_are_those_of_the_same_decoder_here(form):
    photo = inspect(encode(coloured(RED, 300, 200), form), LIMIT)
    assert np.array_equal(
        decoded(sandbox.Sandbox(64 * MB, 10), photo), np.asarray(decoder.square(photo, 32, "center_crop"))
    )


@pytest.mark.parametrize(
    ("behaviour", "seconds"),
    [
        ("loop", HANG_S), ("loop_deaf_to_signals", HANG_S), ("sleep", 3), ("allocate", HANG_S),
        ("allocate_in_c", HANG_S), ("crash", HANG_S), ("leave", HANG_S),
    ],
)  # fmt: skip
def test_the_limits_hold_for_any_decoder(hostile, hostile_photo, behaviour, seconds):
    hostile(behaviour)
    box = sandbox.Sandbox(64 * MB, 1)
    decoded(box)  # the zygote's start is over
    with pytest.raises(TooCostlyError, match="more than 64 MB of memory, 1 s of CPU time or"):
        decoded(box, hostile_photo, seconds)
    assert decoded(box).shape == (32, 32, 3)
    until(lambda: not children(box))  # nothing is left of it


def zygote_of(box) -> "subprocess.Popen[bytes]":
    _, _, (_, zygote), _ = box._end.peek()
    return zygote


def children(box) -> list[str]:
    """The processes that the sandbox's zygote has now."""
    pid = zygote_of(box).pid
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


@pytest.mark.skipif(sys.platform != "linux", reason="the memory is limited on Linux only")
def test_a_hoard_ends_at_the_memory_limit(hostile, hostile_photo):
    hostile("hoard")
    with pytest.raises(BrokenImageError) as error:
        decoded(sandbox.Sandbox(64 * MB, 60), hostile_photo)
    most = int(str(error.value)) * 1024
    assert 40 * MB < most < (64 + 16 + 30) * MB  # spare memory, and the interpreter


@pytest.mark.parametrize(
    ("behaviour", "error"), [("few_pixels", TooCostlyError), ("long_message", BrokenImageError)]
)
def test_a_decoder_may_answer_anything(hostile, hostile_photo, behaviour, error):
    hostile(behaviour)
    with pytest.raises(error) as caught:
        decoded(sandbox.Sandbox(64 * MB, 10), hostile_photo)
    assert len(str(caught.value)) <= 200


@pytest.mark.parametrize("cpu_s", ["nan", "-1e9", "1e9"])
def test_the_cpu_time_that_a_decoder_states_is_within_the_limit(hostile, monkeypatch, cpu_s):
    hostile("lie")
    monkeypatch.setenv("PYTHON_CPU_S", cpu_s)
    assert 0 <= sandbox.Sandbox(64 * MB, 10).decode(PHOTO, 32, "center_crop", HANG_S)[1] <= 10


def test_a_signal_to_every_process_of_the_service_ends_no_worker():
    box = sandbox.Sandbox(64 * MB, 10)
    decoded(box)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        zygote_of(box).send_signal(number)
    time.sleep(0.2)
    assert zygote_of(box).poll() is None
    assert decoded(box).shape == (32, 32, 3)


def test_a_lack_in_the_worker_is_not_the_photo_s_fault(hostile, hostile_photo):
    hostile("no_files")
    with pytest.raises(sandbox.NoWorkerError, match="out of memory or file descriptors"):
        decoded(sandbox.Sandbox(64 * MB, 10), hostile_photo)


SHAPES = {
    "JPEG": ("RGB", "JPEG", {}),
    "progressive JPEG": ("RGB", "JPEG", {"progressive": True}),
    "progressive JPEG, whole chroma": ("RGB", "JPEG", {"progressive": True, "subsampling": 0}),
    "CMYK JPEG": ("CMYK", "JPEG", {"progressive": True}),
    "grey JPEG": ("L", "JPEG", {}),
    "PNG": ("RGB", "PNG", {}),
    "one-bit PNG": ("1", "PNG", {}),
    "transparent PNG": ("RGBA", "PNG", {}),
    "grey and alpha PNG": ("LA", "PNG", {}),
    "16-bit PNG": ("I;16", "PNG", {}),
    "palette PNG": ("P", "PNG", {}),
    "transparent palette PNG": ("P", "PNG", {"transparency": 0}),
    "transparent RGB PNG": ("RGB", "PNG", {"transparency": (0, 0, 0)}),
    "GIF": ("P", "GIF", {}),
    "transparent GIF": ("P", "GIF", {"transparency": 0}),
    "WebP": ("RGB", "WEBP", {"method": 0}),
    "transparent WebP": ("RGBA", "WEBP", {"method": 0}),
    "lossless WebP": ("RGBA", "WEBP", {"method": 0, "lossless": True, "quality": 0}),
    "BMP": ("RGB", "BMP", {}),
    "AVIF": ("RGB", "AVIF", {"speed": 10}),
    "transparent AVIF": ("RGBA", "AVIF", {"speed": 10}),
    "AVIF, whole chroma": ("RGB", "AVIF", {"speed": 10, "subsampling": "4:4:4"}),
}
if HEIC_INSTALLED:
    import pillow_heif

    pillow_heif.register_heif_opener()
    SHAPES |= {
        "HEIC": ("RGB", "HEIF", {}),
        "transparent HEIC": ("RGBA", "HEIF", {}),
        "HEIC, whole chroma": ("RGB", "HEIF", {"chroma": 444}),
    }


@pytest.fixture(scope="module")
def box() -> Iterator[object]:
    return sandbox.Sandbox(64 * MB, 60)


@pytest.mark.skipif(sys.platform != "linux", reason="the memory is limited on Linux only")
@pytest.mark.parametrize("size", [(2600, 1800), (16_000, 260), (260, 16_000), (5_200, 2_600)])
@pytest.mark.parametrize(
    "name",
    # x265 takes seconds for these photos.
    [pytest.param(name, marks=[pytest.mark.slow] if "HEIC" in name else ()) for name in SHAPES],
)
def test_the_memory_that_a_structure_states_is_enough(box, name, size):
    mode, form, options = SHAPES[name]
    photo = inspect(encoded(Image.new(mode, size), form, **options), LIMIT)
    box.memory = photo.memory(224)
    assert len(box.decode(photo, 224, "center_crop", HANG_S)[0]) == 224 * 224 * 3


OTHER_SHAPES = {
    "a JPEG without its end": lambda: encoded(Image.new("RGB", (2600, 1800)), "JPEG")[:-2],
    "a PNG of 16 bits with a transparent colour": lambda: deep_png(
        np.zeros((1800, 2600, 3), np.uint16), 16, (1, 2, 3)
    ),
    "a BMP of bit fields": lambda: bitmap(
        np.zeros((900, 1300), np.uint8), 32, 56, 3, (0xFF, 0xFF00, 0xFF0000, 0xFF000000)
    ),
    "a BMP of runs": lambda: bitmap(
        np.zeros((1800, 2600), np.uint8), 8, 40, 1, palette=bytes(1024), data=b"\0\1"
    ),
}


@pytest.mark.skipif(sys.platform != "linux", reason="the memory is limited on Linux only")
@pytest.mark.parametrize("name", OTHER_SHAPES)
def test_the_memory_that_is_stated_for_odd_files_is_enough(box, name):
    photo = inspect(OTHER_SHAPES[name](), LIMIT)
    box.memory = photo.memory(224)
    assert len(box.decode(photo, 224, "center_crop", HANG_S)[0]) == 224 * 224 * 3


@pytest.mark.skipif(sys.platform != "linux", reason="the memory is limited on Linux only")
@pytest.mark.parametrize("mode", ["1", "L", "I;16", "LA", "RGBA"])
@pytest.mark.parametrize("size", [(1, 2_000_000), (2_000_000, 1)])
def test_the_memory_of_a_narrow_png_includes_its_rows_and_columns(box, mode, size):
    photo = inspect(encoded(Image.new(mode, size), "PNG", compress_level=1), LIMIT)
    box.memory = photo.memory(224)
    assert len(box.decode(photo, 224, "squash", HANG_S)[0]) == 224 * 224 * 3


def test_an_error_of_the_decoder_arrives():
    data = encode(coloured(RED, 96, 64), "PNG")
    with pytest.raises(BrokenImageError, match="truncated or corrupt PNG"):
        decoded(sandbox.Sandbox(64 * MB, 10), inspect(data[: len(data) // 2], LIMIT))


def test_decoders_get_no_secrets(hostile, hostile_photo, monkeypatch):
    hostile("variables")
    monkeypatch.setenv("MODEL_TOKEN", "secret")
    monkeypatch.setenv("API_KEYS", "secret")
    with pytest.raises(BrokenImageError) as error:
        decoded(sandbox.Sandbox(64 * MB, 10), hostile_photo)
    names = str(error.value).split()
    assert "PYTHONPATH" in names
    assert not {"MODEL_TOKEN", "API_KEYS"} & set(names)


def test_a_killed_zygote_is_replaced():
    box = sandbox.Sandbox(64 * MB, 10)
    decoded(box)
    zygote = zygote_of(box)
    os.kill(zygote.pid, signal.SIGKILL)
    zygote.wait()
    assert decoded(box).shape == (32, 32, 3)


def test_the_zygote_ends_with_its_service(tmp_path):
    script = (
        "from ml.model.sandbox.sandbox import Sandbox; import time\n"
        "box = Sandbox(1 << 26, 10); box.start(); print(box._end.peek()[2][1].pid, flush=True)\n"
        "time.sleep(10_000)"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as service:
        assert service.stdout is not None
        pid = int(service.stdout.readline())
        time.sleep(0.5)
        service.kill()
        until(lambda: not running(pid), "the zygote is still there")


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_without_descriptors_there_is_no_worker():
    script = (
        "import os, sys; from ml.model.sandbox.sandbox import *; from ml.model.formats import inspect\n"
        "photo = inspect(bytes.fromhex(sys.argv[1]), 10**8); box = Sandbox(1 << 26, 10); box.start()\n"
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
        "files = []\n"
        "try:\n"
        "  while True: files.append(os.open(os.devnull, os.O_RDONLY))\n"
        "except OSError: pass\n"
        "try: box.decode(photo, 32, 'squash', 100)\n"
        "except NoWorkerError as error: print(error)\n"
        "for file in files: os.close(file)\n"
        "print(len(box.decode(photo, 32, 'squash', 100)[0]))\n"
    )
    command = [sys.executable, "-c", script, PHOTO.essential.hex()]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, cwd=ROOT)
    assert "Too many open files" in shown.stdout, shown.stderr
    assert shown.stdout.endswith("3072\n")


def test_a_worker_may_answer_an_empty_photo_and_end_before_all_is_sent():
    ended = threading.Event()

    class Slow(socket.socket):
        def sendall(self, data, *flags) -> None:
            super().sendall(data, *flags)
            ended.wait(HANG_S)

    def work() -> None:
        messages.receive(theirs, messages.PHOTO.size)
        theirs.sendall(messages.ANSWER.pack(messages.UNSUPPORTED, 0.0, 0))
        theirs.close()
        ended.set()

    one, theirs = socket.socketpair()
    threading.Thread(target=work).start()
    with Slow(fileno=one.detach()) as ours:
        empty = Structure("HEIC", 1, 1, b"", 0)
        answer = sandbox._exchange(ours, empty, 32, messages.SQUASHED, time.monotonic() + HANG_S)
    assert answer == (messages.UNSUPPORTED, 0.0, b"")
