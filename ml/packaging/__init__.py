"""Stage package: exports the network to ONNX, checks the ONNX model, and writes `model.pt`."""
