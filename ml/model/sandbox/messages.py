"""Messages between the service, the zygote and a worker, which travel through sockets of this machine."""

import socket
import struct
import time

LIMITS = struct.Struct("<QIdB")
"""Service to zygote, with the descriptor of a socket: memory in bytes, CPU seconds, seconds, niceness."""
PROCESS_ID = struct.Struct("<I")
"""Worker to service, first of all."""
PHOTO = struct.Struct("<8sIIBHBI")
"""Service to worker: format, width, height, orientation, side of the result, which result, and the number of
bytes that follow."""
SQUASHED, CROPPED, COPY = range(3)
"""Which result: a square of RGB pixels, made from the whole photo or from its centre, or a JPEG."""
ANSWER = struct.Struct("<BdI")
"""Worker to service: outcome, CPU seconds, and the number of bytes that follow."""
DONE, REFUSED, UNSUPPORTED, NO_MEMORY, NO_RESOURCES = range(5)
"""Outcomes. What follows is the result, or the message of a BrokenImageError or an UnsupportedImageError."""


def receive(connection: socket.socket, size: int, deadline: float | None = None) -> bytes:
    """Receive exactly so many bytes.

    Args:
        connection: a stream.
        size: number of bytes.
        deadline: by `time.monotonic`; None: none.

    Raises:
        EOFError: the other end was closed before.
        TimeoutError: the deadline has passed.
    """
    buffer = bytearray(size)
    view, received = memoryview(buffer), 0
    while received < size:
        if deadline is not None:
            if (left := deadline - time.monotonic()) <= 0:
                raise TimeoutError
            connection.settimeout(left)
        count = connection.recv_into(view[received:])
        if not count:
            raise EOFError
        received += count
    return bytes(buffer)
