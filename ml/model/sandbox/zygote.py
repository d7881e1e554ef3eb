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

from ml.model import decoder
from ml.model.errors import ImageError
from ml.model.formats.structure import Structure
from ml.model.sandbox import messages


def main(descriptor: int) -> None:
    """Fork workers until the service closes its end of the socket with this descriptor."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no worker becomes a zombie
    # Ctrl-C is sent to every process of the terminal, but requests in progress still need workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    control = socket.socket(fileno=descriptor)
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, messages.LIMITS.size, 1)
        if not message:
            return
        with contextlib.suppress(OSError):  # too many processes: the service sees its socket close
            if os.fork() == 0:
                control.close()
                _work(socket.socket(fileno=descriptors[0]), *messages.LIMITS.unpack(message))
        for each in descriptors:
            os.close(each)


def _work(connection: socket.socket, memory: int, cpu_s: int, seconds: float, niceness: int) -> NoReturn:
    """Decode one photo within the limits, then end. Exceeding the times ends the process at once."""
    try:
        connection.sendall(messages.PROCESS_ID.pack(os.getpid()))
        resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.setitimer(signal.ITIMER_REAL, seconds)
        os.nice(niceness)
        with contextlib.suppress(OSError):  # if the system runs out of memory, this process goes first
            Path("/proc/self/oom_score_adj").write_text("1000")
        kind, width, height, orientation, side, cropped, size = messages.PHOTO.unpack(
            messages.receive(connection, messages.PHOTO.size)
        )
        data = messages.receive(connection, size)
        photo = Structure(kind.rstrip(b"\0").decode(), width, height, data, 0, orientation=orientation)
        if sys.platform == "linux":  # macOS doesn't enforce it
            limit = _address_space() + memory
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        outcome, content = _decode(photo, side, "center_crop" if cropped else "squash")
        connection.sendall(messages.ANSWER.pack(outcome, _cpu_seconds(), len(content)) + content)
    except (EOFError, OSError):  # the service has gone
        pass
    finally:
        os._exit(0)


def _decode(photo: Structure, side: int, resize: decoder.Resize) -> tuple[int, bytes]:
    try:
        return messages.PIXELS, decoder.square(photo, side, resize).tobytes()
    except ImageError as error:
        return messages.REFUSED, str(error).encode()
    except MemoryError:
        return messages.NO_MEMORY, b""
    except OSError:
        return messages.NO_RESOURCES, b""


def _address_space() -> int:
    """Return the size of this process's address space in bytes; see proc_pid_statm(5)."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * resource.getpagesize()


def _cpu_seconds() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main(int(sys.argv[1]))
