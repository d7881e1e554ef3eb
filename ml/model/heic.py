"""The decoder of HEIC, pillow-heif, which is installed separately: `pip install -r requirements-heic.txt`.

It is imported only by processes that decode such a photo, never by the service itself.
"""

import functools
from importlib.util import find_spec

from ml.model.errors import UnsupportedImageError

_LEAST = (1, 23, 6)
"""libheif's first version without known holes. Its wheel contains the library, which scanners don't see."""
_ADVICE = "send a JPEG instead, or ask the operator to install requirements-heic.txt (docs/deployment.md)"


@functools.cache
def installed() -> bool:
    """Return whether there is a decoder."""
    return find_spec("pillow_heif") is not None


def check_installed() -> None:
    """Check that there is a decoder.

    Raises:
        UnsupportedImageError: there is none.
    """
    if not installed():
        raise UnsupportedImageError(f"a HEIC image, for which no decoder is installed; {_ADVICE}")


def register() -> None:
    """Make Pillow decode HEIC.

    Raises:
        UnsupportedImageError: there is no decoder, or it is too old to be safe.
    """
    if problem := _registered():
        raise UnsupportedImageError(problem)


@functools.cache
def _registered() -> str:
    """Return why there is no decoder; empty if there is one."""
    try:
        import pillow_heif
    except ImportError as error:
        return f"a HEIC image, whose decoder can't be imported ({error}); {_ADVICE}"
    version = pillow_heif.libheif_version()
    if tuple(int(part) for part in version.split(".") if part.isdigit()) < _LEAST:
        least = ".".join(map(str, _LEAST))
        return f"a HEIC image, whose decoder is unsafe: libheif {version} is older than {least}; {_ADVICE}"
    # Threads would cost memory, and gain nothing in a process that has one CPU.
    pillow_heif.register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)
    return ""
