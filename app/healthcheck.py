"""`python app/healthcheck.py`: exit code 0 if the service in this container answers /health, else 1.

The image's HEALTHCHECK runs it twice a minute, so it imports neither the app nor an HTTP client.
"""

import os
import socket
import sys
from contextlib import suppress

_TIMEOUT_S = 3.0
# Addresses to connect to, by the address to listen on. With `::`, the service may have IPv4 only.
_ANY = {"0.0.0.0": ["127.0.0.1"], "::": ["::1", "127.0.0.1"]}  # noqa: S104


def check(host: str, port: int) -> None:
    """Request /health.

    Args:
        host: what the service listens on, as in HOST.
        port: its TCP port.

    Raises:
        OSError: the service can't be reached, doesn't answer in time, or doesn't answer 200.
    """
    with _connect(host, port) as connection:
        connection.sendall(b"GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n")
        status = connection.recv(64).partition(b"\r\n")[0]
    if status.split(b" ")[1:2] != [b"200"]:
        raise OSError(f"/health answers {status.decode('latin-1')!r}")


def _connect(host: str, port: int) -> socket.socket:
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    *others, last = _ANY.get(str(answers[0][4][0]), [host])
    for each in others:
        with suppress(OSError):
            return socket.create_connection((each, port), timeout=_TIMEOUT_S)
    return socket.create_connection((last, port), timeout=_TIMEOUT_S)


def main() -> int:
    """Check the service at HOST and PORT; return the exit code."""
    host = os.environ.get("HOST", "").strip() or "0.0.0.0"  # noqa: S104
    try:
        check(host, int(os.environ.get("PORT", "").strip() or "8080"))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
