"""What publishing is made of: a release's files, the way they go up, and the model that is released now."""
