"""A recording of the whole way: what is kept of it, and how it becomes a video."""
