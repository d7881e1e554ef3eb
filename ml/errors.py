"""What the pipeline raises for what a person can mend, and what `model.pt` is refused with."""


class PipelineError(RuntimeError):
    """Bad data, a bad parameter or a gate that closed; the message is one line fit for a person."""


class BundleError(ValueError):
    """A file that is no usable `model.pt`; the message is one line that says what was found."""


class NoTwinError(BundleError):
    """A torch checkpoint without an ONNX twin."""
