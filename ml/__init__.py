"""The pipeline: photos in, `model.pt` out. One module a DVC stage."""
