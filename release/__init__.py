"""Judge a model, and publish it with its reports as a GitHub release."""
