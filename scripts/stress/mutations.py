"""Ways to break photos; the same seed gives the same bytes."""

import random
from collections.abc import Callable

from scripts.stress import formats
from scripts.stress.seeds import PNG, Seeds

Mutation = Callable[[random.Random, bytes, Seeds], bytes]

_SIZES = (
    0, 1, 2, 3, 255, 256, 4096, 7071, 16_383, 32_768, 65_535,
    1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1,
)  # fmt: skip
"""Widths, heights and lengths at which arithmetic may fail; 7,071 squared is just below MAX_PIXELS."""
_HEADER = 300


def mutated(seed: int, number: int, files: Seeds) -> tuple[str, bytes]:
    """Return how a photo was broken, and the broken photo; the same for the same seed and number."""
    chance = random.Random(f"{seed}:{number}")  # noqa: S311
    name = list(files)[number % len(files)]
    data, steps = files[name], [name]
    for _ in range(chance.choice((1, 1, 1, 2, 2, 4))):
        mutation = chance.choice(PART_MUTATIONS if formats.parts(data) else MUTATIONS)
        data = mutation(chance, data, files)
        steps.append(mutation.__name__.strip("_"))
    if data.startswith(PNG) and chance.random() < 0.6:
        # Otherwise a decoder stops at the first wrong checksum.
        data = formats.with_checksums(data)
        steps.append("checksums")
    return " ".join(steps), data


def _at(chance: random.Random, data: bytes) -> int:
    """Return an offset; half of them are in the header, where most decisions of a decoder are made."""
    end = min(len(data), _HEADER) if chance.random() < 0.5 else len(data)
    return chance.randrange(max(1, end))


def _run(chance: random.Random, data: bytes) -> formats.Span:
    start = _at(chance, data)
    return start, min(len(data), start + chance.choice((1, 2, 4, 8, 32, 200, 4000)))


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
    """Join the head of this file and the tail of another one of any format."""
    other = chance.choice(list(files.values()))
    return data[: _at(chance, data)] + other[_at(chance, other) :]


def _set_dimension(chance: random.Random, data: bytes, files: Seeds) -> bytes:
    fields = formats.dimensions(data)
    if not fields:
        return _flip_bits(chance, data, files)
    for at, size, order in chance.sample(fields, chance.randint(1, min(2, len(fields)))):
        data = formats.put(data, at, chance.choice(_SIZES), size, order)
    return data


def _set_length(chance: random.Random, data: bytes, files: Seeds) -> bytes:
    """Write a wrong length into the header of a chunk, segment or block."""
    parts = formats.parts(data)
    if not parts:
        return formats.put(data, chance.choice((2, 10, 14, 34, 46)), chance.choice(_SIZES), 4, "little")
    start, end = chance.choice(parts)
    value = chance.choice((*_SIZES, end - start + 1, end - start - 13))
    if data.startswith(PNG):
        return formats.put(data, start, value, 4, "big")
    if data.startswith(formats.JPEG):
        return formats.put(data, start + 2, value, 2, "big")
    if data.startswith(b"RIFF"):
        return formats.put(data, chance.choice((4, start + 4)), value, 4, "little")
    return formats.put(data, start + 2, value, 1, "little")


def _repeat_part(chance: random.Random, data: bytes, files: Seeds) -> bytes:
    parts = formats.parts(data)
    (start, end), (at, _) = chance.choice(parts), chance.choice(parts)
    return data[:at] + data[start:end] * chance.choice((1, 2, 500)) + data[at:]


def _remove_part(chance: random.Random, data: bytes, files: Seeds) -> bytes:
    start, end = chance.choice(formats.parts(data))
    return data[:start] + data[end:]


def _shuffle_parts(chance: random.Random, data: bytes, files: Seeds) -> bytes:
    parts = formats.parts(data)
    shuffled = chance.sample(parts, len(parts))
    inside = b"".join(data[start:end] for start, end in shuffled)
    return data[: parts[0][0]] + inside + data[parts[-1][1] :]


def _break_part(chance: random.Random, data: bytes, files: Seeds) -> bytes:
    """Break inside a single chunk, so that every kind of chunk gets broken."""
    start, end = chance.choice(formats.parts(data))
    broken = chance.choice((_flip_bits, _overwrite, _insert, _delete))(chance, data[start:end], files)
    return data[:start] + broken + data[end:]


MUTATIONS: tuple[Mutation, ...] = (
    _flip_bits, _overwrite, _delete, _repeat, _insert, _truncate, _zero_tail, _append, _splice,
    _set_dimension, _set_dimension, _set_length,
)  # fmt: skip
"""One of them is drawn at random; those that are listed twice are drawn more often."""
PART_MUTATIONS = (*MUTATIONS, _repeat_part, _remove_part, _shuffle_parts, _break_part, _break_part)
"""The same for files in which parts are found."""
