"""The EXIF orientation, the only metadata that decides how a photo is seen.

EXIF is a TIFF file (CIPA DC-008, TIFF 6.0). Pillow would read every tag of it, which a hostile file makes
expensive; here one table of at most a few hundred entries is searched for one tag.
"""

import struct

_ORIENTATION = 0x0112
_SHORT, _LONG = 3, 4
_ENTRIES = 500


def orientation(exif: bytes) -> int:
    r"""Return the orientation, 1 to 8, or 1 if the data has none or is damaged.

    Args:
        exif: TIFF data, with or without the prefix `Exif\0\0`.
    """
    exif = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    if order is None:
        return 1
    try:
        (table,) = struct.unpack_from(order + "I", exif, 4)
        (entries,) = struct.unpack_from(order + "H", exif, table)
        for entry in range(table + 2, table + 2 + 12 * min(entries, _ENTRIES), 12):
            tag, kind, count = struct.unpack_from(order + "HHI", exif, entry)
            if tag == _ORIENTATION:
                if kind not in (_SHORT, _LONG) or count != 1:
                    return 1
                (value,) = struct.unpack_from(order + ("H" if kind == _SHORT else "I"), exif, entry + 8)
                return int(value) if 1 <= value <= 8 else 1
    except struct.error:  # the data ends before what it points to
        pass
    return 1
