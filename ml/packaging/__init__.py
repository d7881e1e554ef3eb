"""What stage package is made of: what is put into `model.pt` beside the weights, and tried on it."""
