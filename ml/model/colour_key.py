"""The transparent colour of a PNG without alpha channel, which Pillow knows for 8 bits only."""

import io

from PIL import Image, ImageChops

from ml.model.formats.structure import Structure

_DEPTH_AT = 24  # in the file
_WHITE = 255


def without_colour_key(image: Image.Image, photo: Structure) -> Image.Image:
    """Return a decoded PNG in which white replaces a transparent colour that Pillow would miss.

    Args:
        image: the image, decoded.
        photo: its structure.
    """
    depth, key = photo.essential[_DEPTH_AT], image.info.get("transparency")
    if key is None or depth == 8 or image.mode not in ("1", "L", "RGB", "I;16"):
        return image
    key = image.info.pop("transparency")
    if image.mode == "RGB":
        return _rgb(image, photo, key)
    if image.mode == "I;16":
        table = bytes(_WHITE if value == key else value >> 8 for value in range(1 << 16))
        return image.convert("I").point(table, "L")
    most = (1 << depth) - 1
    image = image.convert("L")
    return image.point([_WHITE if value == (key & most) * 255 // most else value for value in range(256)])


def _rgb(high: Image.Image, photo: Structure, key: tuple[int, ...]) -> Image.Image:
    """Decode the low bytes, too: Pillow decodes the high ones, and both must agree with the key."""
    with Image.open(io.BytesIO(photo.essential), formats=[photo.kind]) as low:
        low.tile = [tile._replace(args="RGB;16L") for tile in low.tile]
        low.load()
        different = Image.new("L", high.size)
        for part, shift in ((high, 8), (low, 0)):
            for band, value in zip(part.split(), key, strict=True):
                table = [0 if each == value >> shift & 255 else 255 for each in range(256)]
                different = ImageChops.lighter(different, band.point(table))
    return Image.composite(high, Image.new("RGB", high.size, "white"), different)
