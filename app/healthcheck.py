"""`python app/healthcheck.py`: exit code 0 if the service in this container answers /health, else 1.

The image's HEALTHCHECK runs it twice a minute, so it imports neither the app nor an HTTP client.
"""

import os
import socket
import sys

_TIMEOUT_S = 3.0
_ANY = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  (addresses to connect to, not to listen on)


def check(host: str, port: int) -> None:
    """Request /health.

    Raises:
        OSError: the service can't be reached, doesn't answer in time, or doesn't answer 200.
    """
    with socket.create_connection((host, port), timeout=_TIMEOUT_S) as connection:
        connection.sendall(b"GET /health HTTP/1.0\r\nHost: localhost\r\n\r\n")
        status = connection.recv(64).partition(b"\r\n")[0]
    if status.split(b" ")[1:2] != [b"200"]:
        raise OSError(f"/health answers {status.decode('latin-1')!r}")


def main() -> int:
    """Check the service at HOST and PORT; return the exit code."""
    host = os.environ.get("HOST", "").strip()
    try:
        check(_ANY.get(host, host), int(os.environ.get("PORT", "").strip() or "8080"))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
