"""The page on which people decide about photos, and the review of collected photos on it."""
