"""The pipeline: photos in, `model.pt` out. One module a DVC stage."""

import os

# Read by OpenMP when torch is imported. Its threads would wait by spinning, on processors that the workers
# who decode and augment need: a small network's epoch takes 1.7 times as long so.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# Read by ONNX Runtime when it is imported: it would keep a database under the user's cache folder and send
# what it notes there to its makers. Somebody's photos are none of their business; 0 turns it on.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
