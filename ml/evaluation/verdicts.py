"""Verdicts on a candidate. They are not in `compare`, because that imports SciPy."""

BETTER = "better"
WORSE = "worse"
UNSURE = "no clear difference"
INCOMPARABLE = "incomparable"
