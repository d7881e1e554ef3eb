"""`python -m ml.model.sandbox.zygote FD`: forks a worker for each photo that the service sends.

A fork is safe only in a process without threads, so this is an interpreter of its own. It imports the decoder
once, and the workers share that memory. The kernel enforces their limits, whatever the decoder does:
setrlimit(2), setitimer(2).
"""

import contextlib
import os
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import NoReturn

from ml.model import allocator, decoder, heic
from ml.model.errors import ImageError, UnsupportedImageError
from ml.model.formats.structure import Structure
from ml.model.sandbox import messages


def main(descriptor: int) -> None:
    """Fork workers until the service closes its end of the socket with this descriptor."""
    allocator.use_one_arena()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no worker becomes a zombie
    # They may be sent to every process of the service, but requests in progress still need workers.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    if heic.installed():  # once, and not in each worker
        with contextlib.suppress(UnsupportedImageError):  # which the workers report
            heic.register()
    address_space = _address_space()
    control = socket.socket(fileno=descriptor)
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, messages.LIMITS.size, 1)
        if not message:
            return
        if not descriptors:  # this process had none left: the service sees its socket close
            continue
        with contextlib.suppress(OSError):  # too many processes: the service sees its socket close
            if os.fork() == 0:
                control.close()
                memory, *limits = messages.LIMITS.unpack(message)
                _work(socket.socket(fileno=descriptors[0]), address_space + memory, *limits)
        for each in descriptors:
            os.close(each)


def _work(
    connection: socket.socket, address_space: int, cpu_s: int, seconds: float, niceness: int
) -> NoReturn:
    """Decode one photo within the limits, then end. Exceeding the times ends the process at once."""
    try:
        connection.sendall(messages.PROCESS_ID.pack(os.getpid()))
        outcome, content = messages.NO_RESOURCES, b""
        with contextlib.suppress(OSError):
            outcome, content = _decode(connection, address_space, cpu_s, seconds, niceness)
        connection.sendall(messages.ANSWER.pack(outcome, _cpu_seconds(), len(content)) + content)
    except (EOFError, OSError):  # the service has gone
        pass
    finally:
        os._exit(0)


def _decode(
    connection: socket.socket, address_space: int, cpu_s: int, seconds: float, niceness: int
) -> tuple[int, bytes]:
    """Limit this process, and decode the photo that the service sends; return the outcome and its content."""
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.setitimer(signal.ITIMER_REAL, seconds)
    os.nice(niceness)
    with contextlib.suppress(OSError):  # if the system runs out of memory, this process goes first
        Path("/proc/self/oom_score_adj").write_text("1000")
    kind, width, height, orientation, side, result, size = messages.PHOTO.unpack(
        messages.receive(connection, messages.PHOTO.size)
    )
    data = messages.receive(connection, size)
    photo = Structure(kind.rstrip(b"\0").decode(), width, height, data, 0, orientation=orientation)
    if sys.platform == "linux":  # macOS doesn't enforce it
        resource.setrlimit(resource.RLIMIT_AS, (address_space, address_space))
    try:
        if result == messages.COPY:
            return messages.DONE, decoder.copy(photo, side)
        resize: decoder.Resize = "center_crop" if result == messages.CROPPED else "squash"
        return messages.DONE, decoder.square(photo, side, resize).tobytes()
    except UnsupportedImageError as error:
        return messages.UNSUPPORTED, str(error).encode()
    except ImageError as error:
        return messages.REFUSED, str(error).encode()
    except MemoryError:
        return messages.NO_MEMORY, b""


def _address_space() -> int:
    """Return the size of this process's address space in bytes, 0 if unknown; see proc_pid_statm(5)."""
    if sys.platform != "linux":
        return 0
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main(int(sys.argv[1]))
