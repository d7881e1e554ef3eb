"""Measure what answers would change if colour profiles were applied to photos.

Each photo is stored in the colours of each profile, as a camera or a program does, and classified twice: from
these colours as they are, as the service does, and from the photo itself, which is what applying the profile
gives. The photos should be of the model's classes, in one folder per class.
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from ml.cli import whole_number
from ml.model import bundle
from ml.model.decoder import to_rgb
from ml.model.image import decode
from ml.model.onnx_model import OnnxModel
from ml.paths import DEFAULT_MODEL
from scripts.common import arguments
from scripts.common.photos import find
from scripts.common.pictures import encoded


def main() -> int:
    """Run the command line; return the exit code."""
    parser = arguments.parser("colour_profiles", __doc__, "photos AdobeRGB.icc --every 12")
    add = parser.add_argument
    add("photos", type=Path, help="folder of photos")
    add("profiles", type=Path, nargs="+", help="files of ICC profiles, for RGB or CMYK")
    add(
        "--every",
        type=whole_number(1, 1_000_000),
        default=1,
        help="measure with one photo out of so many (default: 1, all)",
    )
    options = parser.parse_args()
    content = bundle.read(DEFAULT_MODEL)
    run, manifest = OnnxModel(content.onnx).run, content.manifest

    def answer(photo: Image.Image) -> NDArray[np.float32]:
        pixels = decode(encoded(photo, "PNG", compress_level=1), manifest.image_size, manifest.resize)
        return np.asarray(run(pixels[np.newaxis])["probabilities"][0], np.float32)

    photos = [each for each in find([options.photos]) if each.label in manifest.classes][:: options.every]
    for file in options.profiles:
        profile = ImageCms.ImageCmsProfile(str(file))
        mode = profile.profile.xcolor_space.strip()
        transform = ImageCms.buildTransform(ImageCms.createProfile("sRGB"), profile, "RGB", mode)
        levels, changes, right = [], [], []
        for each in photos:
            with Image.open(each.path) as image:
                photo = to_rgb(image).copy()
            stored = to_rgb(transform.apply(photo))
            levels.append(np.abs(np.asarray(photo).astype(int) - np.asarray(stored)).mean())
            both = [answer(photo), answer(stored)]
            changes.append(np.abs(both[0] - both[1]).max())
            right.append([manifest.classes[int(one.argmax())] == each.label for one in both])
        applied, plain = np.mean(right, axis=0)
        print(
            f"{file.name} ({mode}): {len(photos)} photos, colours {np.mean(levels):.1f} levels off; "
            f"probabilities change by {np.mean(changes):.4f} on average, "
            f"p99 {np.quantile(changes, 0.99):.3f}; "
            f"right {100 * plain:.2f} %, with the profile applied {100 * applied:.2f} %"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
