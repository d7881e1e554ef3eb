"""Ways to break photos. The same seed gives the same bytes."""

import random
import zlib
from collections.abc import Callable
from typing import Any

from stress.seeds import PNG, Seeds

Span = tuple[int, int]
Mutation = Callable[[random.Random, bytes, Seeds], bytes]

_JPEG = b"\xff\xd8"
_SIZES = (
    0,
    1,
    2,
    3,
    255,
    256,
    4096,
    7071,
    16_383,
    32_768,
    65_535,
    1 << 24,
    (1 << 31) - 1,
    1 << 31,
    (1 << 32) - 1,
)
"""Widths, heights and lengths at which arithmetic goes wrong; 7,071 squared is just under MAX_PIXELS."""
_HEADER = 300


def mutated(seed: int, number: int, files: Seeds) -> tuple[str, bytes]:
    """Return one broken photo and what it was made of; the same for the same seed and number."""
    chance = random.Random(f"{seed}:{number}")  # noqa: S311
    name = list(files)[number % len(files)]
    data, done = files[name], [name]
    for _ in range(chance.choice((1, 1, 1, 2, 2, 4))):
        mutation = chance.choice(MUTATIONS)
        data = mutation(chance, data, files)
        done.append(mutation.__name__.strip("_"))
    if data.startswith(PNG) and chance.random() < 0.6:
        # Otherwise a reader looks no further than the first wrong checksum.
        data = _with_checksums(data)
        done.append("checksums")
    return " ".join(done), data


def _at(chance: random.Random, data: bytes) -> int:
    """Return a place in the file: as often in its header, where most is decided, as anywhere."""
    end = min(len(data), _HEADER) if chance.random() < 0.5 else len(data)
    return chance.randrange(max(1, end))


def _run(chance: random.Random, data: bytes) -> Span:
    start = _at(chance, data)
    return start, min(len(data), start + chance.choice((1, 2, 4, 8, 32, 200, 4000)))


def _parts(data: bytes) -> list[Span]:
    """Return what the file is made of: chunks of PNG and RIFF, segments of JPEG, blocks of GIF."""
    if data.startswith(PNG):
        return _walk(data, 8, lambda at: 12 + int.from_bytes(data[at : at + 4]))
    if data.startswith(_JPEG):
        return _walk(data, 2, lambda at: 2 + int.from_bytes(data[at + 2 : at + 4]) if data[at] == 0xFF else 0)
    if data.startswith(b"RIFF"):
        return _walk(data, 12, lambda at: 8 + -(-int.from_bytes(data[at + 4 : at + 8], "little") // 2) * 2)
    if data.startswith(b"GIF") and len(data) > 13:
        start = 13 + (3 << (data[10] & 7) + 1 if data[10] & 128 else 0)
        return _walk(data, start, lambda at: _gif_block(data, at))
    return []


def _walk(data: bytes, at: int, length: Callable[[int], int]) -> list[Span]:
    spans = []
    while at + 4 < len(data):
        size = length(at)
        if size <= 0 or at + size > len(data):
            break
        spans.append((at, at + size))
        at += size
    return spans


def _gif_block(data: bytes, start: int) -> int:
    at = start + 2  # an extension: introducer and label, then sub-blocks
    if data[start] == 0x2C:  # an image: descriptor, its palette, the code size, then sub-blocks
        flags = data[start + 9] if start + 9 < len(data) else 0
        at = start + 11 + (3 << (flags & 7) + 1 if flags & 128 else 0)
    elif data[start] != 0x21:
        return 0
    while at < len(data) and data[at]:
        at += 1 + data[at]
    return at + 1 - start


def _dimensions(data: bytes) -> list[tuple[int, int, str]]:
    """Return where widths and heights stand: offset, bytes, byte order."""
    if data.startswith(PNG):
        return [(16, 4, "big"), (20, 4, "big")]
    if data.startswith(b"BM"):
        return [(18, 4, "little"), (22, 4, "little")]
    if data.startswith(_JPEG):
        frames = [start for start, _ in _parts(data) if data[start + 1] in (0xC0, 0xC1, 0xC2)]
        return [(start + at, 2, "big") for start in frames for at in (5, 7)]
    if data.startswith(b"GIF"):
        images = [start for start, _ in _parts(data) if data[start] == 0x2C]
        return [(at, 2, "little") for at in (6, 8, *(start + at for start in images for at in (1, 3, 5, 7)))]
    found: list[tuple[int, int, str]] = []
    for start, _ in _parts(data):
        kind = data[start : start + 4]
        if kind == b"VP8X":
            found += [(start + 12, 3, "little"), (start + 15, 3, "little")]
        elif kind == b"VP8 ":
            found += [(start + 14, 2, "little"), (start + 16, 2, "little")]
        elif kind == b"VP8L":
            found += [(start + 9, 4, "little")]
        elif kind == b"ANMF":
            found += [(start + at, 3, "little") for at in (8, 11, 14, 17)]
    return found


def _put(data: bytes, at: int, value: int, size: int, order: Any) -> bytes:
    return data[:at] + (value % (1 << 8 * size)).to_bytes(size, order) + data[at + size :]


def _with_checksums(data: bytes) -> bytes:
    for start, end in _parts(data):
        data = _put(data, end - 4, zlib.crc32(data[start + 4 : end - 4]), 4, "big")
    return data


def _flip_bits(chance: random.Random, data: bytes, _: Seeds) -> bytes:
    changed = bytearray(data)
    for _number in range(chance.choice((1, 1, 4, 30)) if data else 0):
        changed[_at(chance, data)] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _overwrite(chance: random.Random, data: bytes, _: Seeds) -> bytes:
    start, end = _run(chance, data)
    run = chance.choice((chance.randbytes(end - start), bytes(end - start), b"\xff" * (end - start)))
    return data[:start] + run + data[end:]


def _delete(chance: random.Random, data: bytes, _: Seeds) -> bytes:
    start, end = _run(chance, data)
    return data[:start] + data[end:]


def _repeat(chance: random.Random, data: bytes, _: Seeds) -> bytes:
    start, end = _run(chance, data)
    return data[:end] + data[start:end] * chance.choice((1, 3, 100)) + data[end:]


def _insert(chance: random.Random, data: bytes, _: Seeds) -> bytes:
    at = _at(chance, data)
    return data[:at] + chance.randbytes(chance.choice((1, 2, 50, 1000))) + data[at:]


def _truncate(chance: random.Random, data: bytes, _: Seeds) -> bytes:
    return data[: _at(chance, data)]


def _zero_tail(chance: random.Random, data: bytes, _: Seeds) -> bytes:
    at = _at(chance, data)
    return data[:at] + bytes(len(data) - at)


def _append(chance: random.Random, data: bytes, files: Seeds) -> bytes:
    junk = (chance.randbytes(3000), bytes(100_000), b"\xff" * 5000, chance.choice(list(files.values())))
    return data + chance.choice(junk)


def _splice(chance: random.Random, data: bytes, files: Seeds) -> bytes:
    """Join the head of this file and the tail of another, of whatever format."""
    other = chance.choice(list(files.values()))
    return data[: _at(chance, data)] + other[_at(chance, other) :]


def _set_dimension(chance: random.Random, data: bytes, files: Seeds) -> bytes:
    fields = _dimensions(data)
    if not fields:
        return _flip_bits(chance, data, files)
    for at, size, order in chance.sample(fields, chance.randint(1, min(2, len(fields)))):
        data = _put(data, at, chance.choice(_SIZES), size, order)
    return data


def _set_length(chance: random.Random, data: bytes, files: Seeds) -> bytes:
    """Let a chunk, segment or block say that it is longer or shorter than it is."""
    parts = _parts(data)
    if not parts:
        return _put(data, chance.choice((2, 10, 14, 34, 46)), chance.choice(_SIZES), 4, "little")
    start, end = chance.choice(parts)
    value = chance.choice((*_SIZES, end - start + 1, end - start - 13))
    if data.startswith(PNG):
        return _put(data, start, value, 4, "big")
    if data.startswith(_JPEG):
        return _put(data, start + 2, value, 2, "big")
    if data.startswith(b"RIFF"):
        return _put(data, chance.choice((4, start + 4)), value, 4, "little")
    return _put(data, start + 2, value, 1, "little")


def _repeat_part(chance: random.Random, data: bytes, files: Seeds) -> bytes:
    parts = _parts(data)
    if not parts:
        return _repeat(chance, data, files)
    (start, end), (at, _) = chance.choice(parts), chance.choice(parts)
    return data[:at] + data[start:end] * chance.choice((1, 2, 500)) + data[at:]


def _remove_part(chance: random.Random, data: bytes, files: Seeds) -> bytes:
    parts = _parts(data)
    if not parts:
        return _delete(chance, data, files)
    start, end = chance.choice(parts)
    return data[:start] + data[end:]


def _shuffle_parts(chance: random.Random, data: bytes, files: Seeds) -> bytes:
    parts = _parts(data)
    if not parts:
        return _overwrite(chance, data, files)
    shuffled = chance.sample(parts, len(parts))
    inside = b"".join(data[start:end] for start, end in shuffled)
    return data[: parts[0][0]] + inside + data[parts[-1][1] :]


def _break_part(chance: random.Random, data: bytes, files: Seeds) -> bytes:
    """Break one chunk alone, so that each kind of chunk has its turn."""
    parts = _parts(data)
    if not parts:
        return _overwrite(chance, data, files)
    start, end = chance.choice(parts)
    broken = chance.choice((_flip_bits, _overwrite, _insert, _delete))(chance, data[start:end], files)
    return data[:start] + broken + data[end:]


MUTATIONS: tuple[Mutation, ...] = (
    _flip_bits,
    _overwrite,
    _delete,
    _repeat,
    _insert,
    _truncate,
    _zero_tail,
    _append,
    _splice,
    _set_dimension,
    _set_dimension,
    _set_length,
    _repeat_part,
    _remove_part,
    _shuffle_parts,
    _break_part,
    _break_part,
)
