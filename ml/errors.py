"""The pipeline's one exception for what a person can mend."""


class PipelineError(RuntimeError):
    """Bad data, a bad parameter or a gate that closed; the message is one line fit for a person."""
