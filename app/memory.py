"""How the container's memory is divided: uploads, collected photos, the service itself, and decoding."""

import math
import os

from ml.model.host import memory_limit

_MB = 1024 * 1024
_UPLOADS, _MOST_UPLOADS = 1 / 8, 512 * _MB
"""Uploads may take this share of the memory: temporary files are in memory too if /tmp is."""
_LEAST_UPLOADS = 2
"""Largest uploads that must find room, however small the memory is."""
_WAITING, _MOST_WAITING = 1 / 16, 32 * _MB
"""Photos that wait to be collected may take this share of the memory."""
_COLLECTING = 160 * _MB
"""For COLLECT_TO: waiting photos, the one that is copied, and the client of a bucket."""
MOST_UNREAD = 32 * _MB
"""Responses that their clients don't read may take this much."""
_SERVICE, _WORKER, _PROCESS = 128 * _MB + MOST_UNREAD, 16 * _MB, 32 * _MB
"""The service, each worker (mostly for the network's intermediate results), and each process that decodes a
photo, without uploads and photos."""
_LEAST_PHOTO, _MOST_PHOTO = 64 * _MB, 1024 * _MB


def for_uploads(max_upload_bytes: int) -> int:
    """Return how many bytes the bodies of all requests may take together."""
    memory = min(memory_limit(), _physical_memory())
    return int(max(_LEAST_UPLOADS * max_upload_bytes, min(_MOST_UPLOADS, memory * _UPLOADS)))


def for_waiting_photos() -> int:
    """Return how many bytes photos that wait to be collected may take together."""
    return int(min(memory_limit() * _WAITING, _MOST_WAITING))


def for_decoding(max_upload_bytes: int, workers: int, collects: bool) -> float:
    """Return how many bytes decoding may take in all processes together; infinite: unlimited."""
    service = _SERVICE + workers * _WORKER + (_COLLECTING if collects else 0)
    return memory_limit() - for_uploads(max_upload_bytes) - service


def for_photo(decoding: float, workers: int) -> int:
    """Return how many bytes decoding one photo may take, if each worker is to decode one."""
    return int(min(max(decoding / workers - _PROCESS, _LEAST_PHOTO), _MOST_PHOTO))


def photos_at_once(decoding: float, photo_bytes: int, workers: int) -> int:
    """Return how many photos of that size may be decoded at the same time."""
    return int(min(max(decoding / (photo_bytes + _PROCESS), 1), workers))


def _physical_memory() -> float:
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows
        return math.inf
