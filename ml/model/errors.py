"""The errors with a message for people."""

import logging


class PipelineError(RuntimeError):
    """Bad data, a bad parameter or a failed check; the message is one line for the person at the terminal."""


class AnswerError(PipelineError):
    """A network's answer for a photo that cannot be used, such as NaN instead of a probability."""


class BundleError(ValueError):
    """A file that is not a usable `model.pt`; the message is one line that says what the file is instead."""

    def __init__(self, message: str) -> None:
        """Keep the message to one printable line: it may quote names from the file."""
        super().__init__(one_line(message))


class NoOnnxModelError(BundleError):
    """A torch checkpoint that contains no ONNX model."""


class ImageError(ValueError):
    """A photo that can't be used; the message is meant for users."""


class UnsupportedImageError(ImageError):
    """Not an accepted image format, judged by content."""


class BrokenImageError(ImageError):
    """A truncated or corrupt image of an accepted format."""


class TooManyPixelsError(ImageError):
    """More pixels than the limit according to the header; nothing was decoded."""


class TooCostlyError(ImageError):
    """Decoding takes more memory or time than a photo may take."""


def one_line(text: str, longest: int = 400) -> str:
    """Return a text as one line without control characters, cut to a length."""
    line = " ".join(text[: 10 * longest].split())[:longest]
    return "".join(character if character.isprintable() else "?" for character in line)


def quiet_stores() -> None:
    """Keep the clients of object stores from logging what they also raise.

    gcsfs logs the traceback; Google's library, several lines for each place where it found no credentials.
    """
    for name in ("gcsfs", "google.auth"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def first_line(error: Exception) -> str:
    """Return the first line of an error's message, cut to 200 characters, or the error's type."""
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__
