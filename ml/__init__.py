"""The training pipeline, from photos to `model.pt`; `ml.model` is shared with the service."""

import os

# OpenMP reads this when torch is imported. By default its threads spin while they wait, on CPU cores that the
# decoding and augmenting workers need: an epoch of a small network then takes 1.7 times as long.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# ONNX Runtime reads this when it is imported. By default it collects usage data and sends it to its makers,
# which users who upload photos have not agreed to. Set the variable to 0 to allow it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
