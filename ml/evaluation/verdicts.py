"""Verdicts on a candidate beside the holder of its place. Not in `compare`, which is slow to import."""

BETTER = "better"
WORSE = "worse"
UNSURE = "no clear difference"
INCOMPARABLE = "incomparable"
