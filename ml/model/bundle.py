"""Reading and writing `model.pt`: torch loads it as a checkpoint, the service reads it without torch.

It is a ZIP file by `torch.save` of tensors and plain values. More entries are appended under its root folder:
`extra/model.json` (everything except the weights), `extra/model.onnx` (the ONNX model), and optionally
`extra/README.md` (the model card) and `extra/examples/` (see `ml.model.examples`). Torch ignores them, and
the service reads only them. This module imports torch only in the functions that need it.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import pickletools
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ml.model import examples as example_photos
from ml.model.errors import BundleError, NoOnnxModelError
from ml.model.examples import Example
from ml.model.files import replaced
from ml.model.manifest import Manifest

if TYPE_CHECKING:
    import torch

_MAX_DIRECTORY_BYTES = 4 << 20  # the list of the ZIP's entries, about 100 bytes for each
_MAX_PICKLE_BYTES = 4 << 20  # names and shapes of the tensors: 40 kB for 300 of them
_MAX_OPCODES = 200_000  # in the pickle: 10,000 for 300 tensors
_MAX_DESCRIPTION_BYTES = 4 << 20  # 3 MB for 1,000 classes with the longest names
MAX_CARD_BYTES = 64 * 1024
"""Largest model card."""

_EPOCH = (1980, 1, 1, 0, 0, 0)  # a constant time stamp, so that the same model gives the same bytes

_STORAGES = ("Float", "Half", "BFloat16", "Double", "Long", "Int", "Short", "Char", "Byte", "Bool")
# What torch.save writes for tensors and plain values; any other name could run code.
_SAFE_GLOBALS = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    "torch Size",
    *(f"torch {kind}Storage" for kind in _STORAGES),
}
_UNSAFE_OPCODES = {"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"}


@dataclasses.dataclass(frozen=True)
class Bundle:
    """The parts of a `model.pt` that the service uses.

    Attributes:
        manifest: the description of the model.
        onnx: the serialized ONNX model. Input `image` uint8 [N, size, size, 3] RGB, output
            `probabilities` float32 [N, classes].
        sha256: of the whole file, in hexadecimal.
        card: the model card in Markdown; empty: there is none.
        examples: photos with the label that each of them must get.
    """

    manifest: Manifest
    onnx: bytes
    sha256: str
    card: str = ""
    examples: Sequence[Example] = ()


def write(
    path: Path,
    manifest: Manifest,
    state_dict: "Mapping[str, torch.Tensor]",
    onnx: bytes,
    known: "Mapping[str, torch.Tensor] | None" = None,
    card: str = "",
    examples: Sequence[Example] = (),
) -> str:
    """Write `model.pt` atomically; the same arguments give the same bytes.

    Args:
        path: of the file; its folder must exist.
        manifest: the description of the model.
        state_dict: the weights, tensors by name.
        onnx: the serialized ONNX model.
        known: weights of the OOD score, for the torch engine; the ONNX model contains them already.
        card: the model card in Markdown.
        examples: small photos with the label that each of them must get.

    Returns:
        The file's SHA-256 in hexadecimal.

    Raises:
        BundleError: the card is larger than `MAX_CARD_BYTES`, or an example is not as
            `ml.model.examples` demands.
    """
    import torch

    description = json.dumps(manifest.to_dict(), indent=1, sort_keys=True, ensure_ascii=False).encode()
    extras = {"model.json": description, "model.onnx": onnx}
    if card:
        extras["README.md"] = card.encode()
        if (size := len(extras["README.md"])) > MAX_CARD_BYTES:
            raise BundleError(f"a model card of {size:,} bytes, but at most {MAX_CARD_BYTES:,} are allowed")
    extras |= {
        name.removeprefix("extra/"): photo
        for name, photo in example_photos.entries(examples, manifest.classes).items()
    }
    tensors = {
        group: {name: tensor.detach().cpu().contiguous().clone() for name, tensor in weights.items()}
        for group, weights in {"state_dict": state_dict, "known_state_dict": known}.items()
        if weights is not None
    }
    buffer = io.BytesIO()  # when torch saves to a buffer, the root folder is always `archive`
    torch.save(manifest.to_dict() | tensors, buffer)
    with zipfile.ZipFile(buffer, "a") as archive:
        root = _root(archive)
        for name, content in extras.items():
            archive.writestr(zipfile.ZipInfo(f"{root}/extra/{name}", _EPOCH), content)
    with replaced(path) as file:
        file.write(buffer.getbuffer())
    return hashlib.sha256(buffer.getbuffer()).hexdigest()


def read(path: Path) -> Bundle:
    """Read the description, ONNX model and card of a `model.pt`, without torch and without unpickling.

    Raises:
        NoOnnxModelError: it is a torch checkpoint without `extra/model.json` and `extra/model.onnx`.
        BundleError: the file is not a ZIP, is truncated, has compressed entries, holds a pickle that could
            run code, or has an invalid description.
        OSError: the file cannot be read.
    """
    data = path.read_bytes()
    with _open(data) as archive:
        root = _root(archive)
        _check_pickle(archive)
        names = set(archive.namelist())
        if not {f"{root}/extra/model.json", f"{root}/extra/model.onnx"} <= names:
            raise NoOnnxModelError("a torch checkpoint without extra/model.json and extra/model.onnx")
        description = _json(_entry(archive, f"{root}/extra/model.json", _MAX_DESCRIPTION_BYTES))
        onnx = _entry(archive, f"{root}/extra/model.onnx")
        manifest, card = Manifest.from_dict(description), _card(archive)
        examples = example_photos.read(archive, manifest.classes)
    return Bundle(manifest, onnx, hashlib.sha256(data).hexdigest(), card, examples)


def read_extras(data: bytes, classes: Sequence[str]) -> tuple[str, Sequence[Example]]:
    """Return the model card in the bytes of a `torch.save` ZIP, or an empty string, and the example photos.

    Raises:
        BundleError: the bytes are not such a ZIP.
    """
    with _open(data) as archive:
        return _card(archive), example_photos.read(archive, classes)


def check_archive(data: bytes) -> None:
    """Check that the bytes are a `torch.save` ZIP with intact entries and a pickle that cannot run code.

    Raises:
        BundleError: they are not.
    """
    with _open(data) as archive:
        _check_pickle(archive)
        for name in archive.namelist():
            _entry(archive, name)  # verifies its checksum


def _check_pickle(archive: zipfile.ZipFile) -> None:
    """Check, by reading its opcodes only, that the pickle holds nothing but tensors and plain values."""
    data = _entry(archive, f"{_root(archive)}/data.pkl", _MAX_PICKLE_BYTES)
    for count, (opcode, argument, _) in enumerate(pickletools.genops(data), 1):
        if count > _MAX_OPCODES:
            raise BundleError(f"its pickle has more than {_MAX_OPCODES:,} opcodes")
        if opcode.name in _UNSAFE_OPCODES:
            raise BundleError(f"rejected: its pickle could run code (opcode {opcode.name})")
        if opcode.name == "GLOBAL" and argument not in _SAFE_GLOBALS:
            name = str(argument).replace(" ", ".")[:80]
            raise BundleError(f"rejected: its pickle could run code ({name!r})")


@contextlib.contextmanager
def _open(data: bytes) -> Iterator[zipfile.ZipFile]:
    """Open the ZIP; any error in it becomes a BundleError of one line.

    As torch.save writes it, no entry is compressed. So all entries together are smaller than the file, and
    nothing that is read from a ZIP bomb can be larger than the file either.
    """
    try:
        file = _File(data)
        with zipfile.ZipFile(file) as archive:
            file.longest_read = len(data)
            _check_entries(archive, len(data))
            yield archive
    except BundleError:
        raise
    except zipfile.BadZipFile as error:
        raise BundleError(f"not a ZIP file, or cut short ({len(data):,} bytes)") from error
    except Exception as error:
        raise BundleError(f"not readable as model.pt: {type(error).__name__}") from error


class _File(io.BytesIO):
    """A file in memory. zipfile reads the list of entries in one piece, and makes an object of each entry."""

    longest_read = _MAX_DIRECTORY_BYTES

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > self.longest_read:
            raise BundleError(f"a ZIP file with more than {self.longest_read:,} bytes of entry names")
        return super().read(size)


def _check_entries(archive: zipfile.ZipFile, size: int) -> None:
    """Check all entries before one is read; `size` is that of the file."""
    entries = archive.infolist()
    for entry in entries:
        if entry.flag_bits & 1:
            raise BundleError(f"its entry {entry.filename!r:.80} is encrypted")
        if entry.compress_type != zipfile.ZIP_STORED or entry.file_size != entry.compress_size:
            raise BundleError(
                f"its entry {entry.filename!r:.80} is compressed, but torch.save compresses none"
            )
    if len(archive.NameToInfo) != len(entries):
        raise BundleError("it has several entries of the same name")
    if sum(entry.file_size for entry in entries) > size:
        raise BundleError("its entries overlap: together they are larger than the file")


def _json(data: bytes) -> object:
    """Return the value of a JSON text, without the NaN and Infinity that Python would accept."""

    def refuse(name: str) -> None:
        raise BundleError(f"extra/model.json contains {name}, which is not a number")

    try:
        return json.loads(data, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        if isinstance(error, BundleError):
            raise
        raise BundleError(f"extra/model.json is not valid JSON ({type(error).__name__})") from error


def _root(archive: zipfile.ZipFile) -> str:
    roots = [name.removesuffix("/data.pkl") for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(roots) != 1 or "/" in roots[0]:
        raise BundleError("a ZIP file, but not one that torch.save wrote")
    return roots[0]


def _card(archive: zipfile.ZipFile) -> str:
    """Return the model card, or an empty string if it is too large or damaged: the model still works."""
    name = f"{_root(archive)}/extra/README.md"
    if name not in archive.namelist() or archive.getinfo(name).file_size > MAX_CARD_BYTES:
        return ""
    try:
        return archive.read(name).decode()
    except Exception:  # noqa: BLE001  (zipfile raises many kinds of errors)
        return ""


def _entry(archive: zipfile.ZipFile, name: str, most: int | None = None) -> bytes:
    size = archive.getinfo(name).file_size
    if most is not None and size > most:
        raise BundleError(f"its entry {name!r:.80} has {size:,} bytes, but at most {most:,} are allowed")
    return archive.read(name)
