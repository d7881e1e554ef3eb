"""The errors with a message for people."""


class PipelineError(RuntimeError):
    """Bad data, a bad parameter or a failed check; the message is one line for the person at the terminal."""


class BundleError(ValueError):
    """A file that is not a usable `model.pt`; the message is one line that says what the file is instead."""


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
