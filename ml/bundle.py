"""`model.pt`, written and read: one file that torch loads as a checkpoint and the service without torch.

A `torch.save` ZIP of tensors and plain values, to which entries are appended under its root folder:
`extra/model.json` (everything but the weights), `extra/model.onnx` (the network's ONNX twin) and, where there
is one, `extra/README.md` (the model card). Torch ignores them; the service reads nothing else. Nothing here
imports torch until a function needs it.
"""

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import pickletools
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from ml.errors import BundleError, NoTwinError
from ml.manifest import Manifest

if TYPE_CHECKING:
    import torch

MAX_ENTRY_BYTES = 1 << 30
"""Largest entry of the ZIP that is read, so that a ZIP bomb is refused before it is unpacked."""
MAX_CARD_BYTES = 64 * 1024
"""Largest model card."""

_EPOCH = (1980, 1, 1, 0, 0, 0)  # a constant time stamp: the same model gives the same bytes

# What torch.save writes for tensors and plain values; everything else could run code.
_SAFE_GLOBALS = {
    "collections OrderedDict",
    "torch._utils _rebuild_tensor_v2",
    "torch._utils _rebuild_parameter",
    "torch Size",
    *(f"torch {kind}Storage" for kind in ("Float", "Half", "BFloat16", "Double", "Long", "Int", "Short")),
    *(f"torch {kind}Storage" for kind in ("Char", "Byte", "Bool")),
}
_UNSAFE_OPCODES = {"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"}


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A `model.pt` as the service sees it.

    Attributes:
        manifest: what it says of itself.
        onnx: the ONNX twin, serialized. Input `image` uint8 [N, size, size, 3] RGB, output
            `probabilities` float32 [N, classes].
        sha256: of the whole file, in hexadecimal.
        card: the model card, Markdown; empty: there is none.
    """

    manifest: Manifest
    onnx: bytes
    sha256: str
    card: str = ""


def write(
    path: Path,
    manifest: Manifest,
    state_dict: "Mapping[str, torch.Tensor]",
    onnx: bytes,
    known: "Mapping[str, torch.Tensor] | None" = None,
    card: str = "",
) -> str:
    """Write `model.pt` atomically and, for the same arguments, byte for byte the same.

    Args:
        path: where to; its folder must exist.
        manifest: what the file says of the network.
        state_dict: the weights, names to tensors.
        onnx: the serialized ONNX twin.
        known: weights of what tells whether a photo shows any of the classes, for the torch engine.
        card: the model card, Markdown.

    Returns:
        The file's SHA-256 in hexadecimal.

    Raises:
        BundleError: the card is larger than `MAX_CARD_BYTES`.
    """
    import torch

    description = json.dumps(manifest.to_dict(), indent=1, sort_keys=True).encode()
    extras = {"model.json": description, "model.onnx": onnx}
    if card:
        extras["README.md"] = card.encode()
        if (size := len(extras["README.md"])) > MAX_CARD_BYTES:
            raise BundleError(f"a model card of {size:,} bytes; at most {MAX_CARD_BYTES:,}")
    buffer = io.BytesIO()  # in a buffer torch calls the root folder `archive`, whatever the file's name
    tensors = {"state_dict": state_dict} | ({"known_state_dict": known} if known else {})
    plain = {
        group: {name: tensor.detach().cpu().contiguous().clone() for name, tensor in some.items()}
        for group, some in tensors.items()
    }
    torch.save(manifest.to_dict() | plain, buffer)
    with zipfile.ZipFile(buffer, "a") as archive:
        root = _root(archive)
        for name, content in extras.items():
            archive.writestr(zipfile.ZipInfo(f"{root}/extra/{name}", _EPOCH), content)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        try:
            file.write(buffer.getbuffer())
            file.flush()
            os.fsync(file.fileno())
            Path(file.name).chmod(0o644)
            Path(file.name).replace(path)
        except BaseException:
            Path(file.name).unlink(missing_ok=True)
            raise
    return hashlib.sha256(buffer.getbuffer()).hexdigest()


def read(path: Path) -> Bundle:
    """Read the description and the ONNX twin of a `model.pt`, without torch and without unpickling.

    Raises:
        NoTwinError: a torch checkpoint, but without `extra/model.json` and `extra/model.onnx`.
        BundleError: the file is no ZIP, is cut short, holds a pickle that could run code, or its
            description is of no use.
        OSError: the file can't be read.
    """
    data = path.read_bytes()
    with _opened(data) as archive:
        root = _root(archive)
        check_pickle(_entry(archive, f"{root}/data.pkl"))
        names = set(archive.namelist())
        if not {f"{root}/extra/model.json", f"{root}/extra/model.onnx"} <= names:
            raise NoTwinError("a torch checkpoint without extra/model.json and extra/model.onnx")
        description = json.loads(_entry(archive, f"{root}/extra/model.json"))
        onnx = _entry(archive, f"{root}/extra/model.onnx")
        card = _card(archive)
    return Bundle(Manifest.from_dict(description), onnx, hashlib.sha256(data).hexdigest(), card)


def read_card(data: bytes) -> str:
    """Return the model card in the bytes of a `torch.save` ZIP, or an empty string.

    Raises:
        BundleError: they are no such ZIP.
    """
    with _opened(data) as archive:
        return _card(archive)


def read_state_dict(path: Path) -> "dict[str, torch.Tensor]":
    """Return the weights of a `model.pt` as float32 tensors; needs torch.

    Raises:
        BundleError: it is no `model.pt` or could run code.
    """
    import torch

    read(path)
    payload = torch.load(path, map_location="cpu", weights_only=True)
    return {name: value.float() if value.is_floating_point() else value
            for name, value in payload["state_dict"].items()}  # fmt: skip


def check_archive(data: bytes) -> None:
    """Refuse what isn't a ZIP of `torch.save` whose every entry is sound and whose pickle can't run code.

    Raises:
        BundleError: it is not.
    """
    with _opened(data) as archive:
        check_pickle(_entry(archive, f"{_root(archive)}/data.pkl"))
        for name in archive.namelist():
            _entry(archive, name)  # its checksum too


def check_pickle(data: bytes) -> None:
    """Refuse a pickle that names anything but tensors and plain values. Reads opcodes; runs none.

    Raises:
        BundleError: it could run code, or is no pickle.
    """
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name in _UNSAFE_OPCODES:
                raise BundleError(f"refused: its pickle could run code (opcode {opcode.name})")
            if opcode.name == "GLOBAL" and argument not in _SAFE_GLOBALS:
                name = str(argument).replace(" ", ".")[:80]
                raise BundleError(f"refused: its pickle could run code ({name!r})")
    except BundleError:
        raise
    except Exception as error:
        raise BundleError("its pickle can't be read") from error


@contextlib.contextmanager
def _opened(data: bytes) -> Iterator[zipfile.ZipFile]:
    """Open the ZIP; whatever is wrong with it becomes a BundleError of one line."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            yield archive
    except BundleError:
        raise
    except zipfile.BadZipFile as error:
        raise BundleError(f"not a ZIP file, or cut short ({len(data):,} bytes)") from error
    except Exception as error:
        raise BundleError(f"not readable as model.pt: {type(error).__name__}") from error


def _root(archive: zipfile.ZipFile) -> str:
    roots = [name.removesuffix("/data.pkl") for name in archive.namelist() if name.endswith("/data.pkl")]
    if len(roots) != 1 or "/" in roots[0]:
        raise BundleError("a ZIP file, but not one that torch.save wrote")
    return roots[0]


def _card(archive: zipfile.ZipFile) -> str:
    """Return the model card; one that is too large, damaged or no UTF-8 is none: the model is as good."""
    name = f"{_root(archive)}/extra/README.md"
    if name not in archive.namelist() or archive.getinfo(name).file_size > MAX_CARD_BYTES:
        return ""
    try:
        return archive.read(name).decode()
    except Exception:  # noqa: BLE001  (zipfile raises of many kinds)
        return ""


def _entry(archive: zipfile.ZipFile, name: str) -> bytes:
    if archive.getinfo(name).file_size > MAX_ENTRY_BYTES:
        raise BundleError(f"{name} states more than {MAX_ENTRY_BYTES:,} bytes")
    return archive.read(name)
