"""The errors with a message for people."""


class PipelineError(RuntimeError):
    """Bad data, a bad parameter or a failed check; the message is one line for the person at the terminal."""


class BundleError(ValueError):
    """A file that is not a usable `model.pt`; the message is one line that says what the file is instead."""


class NoOnnxModelError(BundleError):
    """A torch checkpoint that contains no ONNX model."""
