"""Chunked bodies: the same data as waitress's receiver, however the bytes are split, and linear time."""

import random
import time

import pytest
from waitress.buffers import OverflowableBuffer
from waitress.receiver import ChunkedReceiver as WaitressReceiver

from app.http.chunked import ChunkedReceiver

NEXT = b"GET / HTTP/1.1\r\n\r\n"


def receive(body: bytes, *, max_bytes: int = 10**9, size: int = 10**9) -> tuple[ChunkedReceiver, int]:
    """Pass a body in pieces of a size; return the receiver, and how many bytes it took."""
    receiver, position = ChunkedReceiver(OverflowableBuffer(2**30), max_bytes), 0
    while position < len(body) and not receiver.completed and not receiver.error:
        position += receiver.received(body[position : position + size])
    return receiver, position


def chunked(*chunks: bytes, trailers: bytes = b"") -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in chunks) + b"0\r\n" + trailers + b"\r\n"


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 10**6])
def test_the_data_arrives_however_it_is_split_and_the_next_request_is_left(size):
    chance = random.Random(1)
    chunks = [chance.randbytes(chance.randint(1, 500)) for _ in range(200)]
    body = chunked(*chunks, trailers=b"X-Checksum: 1\r\nX-Other: 2\r\n")
    receiver, taken = receive(body + NEXT, size=size)
    assert (receiver.completed, receiver.error, taken) == (True, None, len(body))
    assert receiver.getfile().read() == b"".join(chunks)
    theirs = WaitressReceiver(OverflowableBuffer(2**30))
    assert theirs.received(body + NEXT) == taken
    assert theirs.getfile().read() == b"".join(chunks)


@pytest.mark.parametrize("line", [b"3;a=b", b'3;a="b c"', b"003", b"3 ", b"3;a;b=c"])
def test_extensions_and_zeros_are_allowed(line):
    receiver, _ = receive(line + b"\r\nabc\r\n0\r\n\r\n")
    assert (receiver.completed, receiver.getfile().read()) == (True, b"abc")


@pytest.mark.parametrize(
    "body",
    [
        b"\r\n", b"\n", b"3\nabc\r\n", b"3\r\nabcd\r\n", b"3\r\nabc\n0\r\n", b"-3\r\nabc\r\n", b"0x3\r\nabc",
        b"3;\x00\r\nabc\r\n", b"3\r\r\nabc\r\n", b"zz\r\n", b";a\r\n", b"1" * 17 + b"\r\n", b"3_0\r\n",
        b"0\r\nX: y\n\r\n", b"3" + b" " * 300, b"1;" + b"x" * 300, b"0\r\nX: " + b"y" * 5000,
        b"0\r\n" + b"X: y\r\n" * 2000,
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 10**6])
def test_a_broken_body_is_rejected(body, size):
    receiver, _ = receive(body, size=size)
    assert receiver.error is not None
    assert receiver.error.code == 400
    assert not receiver.completed


def test_a_body_that_is_too_large_is_rejected_at_the_size_of_its_chunk():
    receiver, taken = receive(b"5\r\nabcde\r\n6\r\n", max_bytes=10)
    assert receiver.error.code == 413
    assert taken == 13
    assert receive(chunked(b"a" * 10), max_bytes=10)[0].completed


def test_many_small_chunks_are_rejected_soon_and_larger_ones_are_not():
    receiver, _ = receive(chunked(*[b"x"] * 100_000))
    assert (receiver.error.code, len(receiver) < 5000) == (400, True)
    assert receive(chunked(*[b"x"] * 300))[0].completed
    assert receive(chunked(*[b"x" * 256] * 10_000))[0].completed


def seconds(body: bytes, size: int) -> float:
    """Return the CPU time to receive a body, the least of three."""
    times = []
    for _ in range(3):
        started = time.thread_time()
        receive(body, size=size)
        times.append(time.thread_time() - started)
    return min(times)


@pytest.mark.parametrize("size", [50, 10**9])
def test_the_time_grows_with_the_bytes_and_not_with_their_square(size):
    small, large = (chunked(*[b"x" * 128] * count) for count in (2000, 32_000))
    assert seconds(large, size) < 16 * 5 * seconds(small, size)  # the square would be 256 times as long
