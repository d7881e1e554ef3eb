"""The files that come of it: an MP4, and the picture that stands for it."""

import subprocess
from pathlib import Path

from PIL import Image, ImageDraw

from filming.frames import RATE


def encode(files: list[tuple[Path, float]], target: Path) -> None:
    """Write an MP4 of these pictures, each with its seconds.

    Raises:
        subprocess.CalledProcessError: ffmpeg fails; it has said why.
    """
    lines = [f"file '{path.name}'\nduration {seconds:.3f}\n" for path, seconds in files]
    listed = files[0][0].with_name("frames.txt")
    # The last duration counts only where a file follows.
    listed.write_text("".join(lines) + f"file '{files[-1][0].name}'\n", encoding="utf-8")
    source = ("-f", "concat", "-safe", "0", "-i", str(listed))
    coding = ("-c:v", "libx264", "-preset", "slow", "-crf", "23", "-pix_fmt", "yuv420p")
    # A frame more: what it follows is held until it comes.
    whole = ("-t", f"{sum(seconds for _, seconds in files) + 1 / RATE:.1f}", "-r", str(RATE))
    for_web = ("-movflags", "+faststart")  # a browser shows it before it has all of it
    subprocess.run(  # noqa: S603
        ["ffmpeg", "-loglevel", "error", "-y", *source, *whole, *coding, *for_web, str(target)],  # noqa: S607
        check=True,
    )


def poster(picture: Path, target: Path) -> None:
    """Write the picture with a sign to play it, in 256 colours, which is a third of its size."""
    with Image.open(picture) as image:
        shown = image.convert("RGB")
    x, y, radius = shown.width - 90, shown.height - 54, 36
    draw = ImageDraw.Draw(shown)
    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill="#8f85ff")
    draw.polygon(((x - 11, y - 18), (x - 11, y + 18), (x + 20, y)), fill="white")
    shown.quantize(256).save(target, optimize=True)
