"""Libraries of architectures, one module each: `LIBRARY/MODEL` is a model of a library."""

from ml.model.errors import PipelineError, one_line


def no_weights(arch: str, error: Exception) -> PipelineError:
    """Return the error for pretrained weights that cannot be downloaded or read."""
    reason = one_line(str(error), 150) or type(error).__name__
    return PipelineError(
        f"no pretrained weights for {arch} ({reason}): check the network, or copy them from a machine "
        "that has them (docs/training.md)"
    )
