"""What a canary's report says about the difference of two versions."""

import pytest

from deploy.canary.judge import Finding
from deploy.canary.report import describe


@pytest.mark.parametrize(
    ("low", "high", "difference"),
    [
        (0.07, 0.5, "from +7.0 to +50.0 points"),
        (0.07, 1, "at least +7.0 points"),
        (-1, -0.07, "at most -7.0 points"),
    ],
)
def test_the_difference_of_two_versions_in_words(low: float, high: float, difference: str) -> None:
    finding = Finding("feedback", "", (72, 5), (0, 5), low, high, 0.005, harm=True)
    assert describe(finding) == (
        "feedback (answers that users judged wrong): 100.00 % of 5 of the new version, 0.00 % of 72 of the "
        f"current one; the difference is {difference}, 0.5 are tolerated"
    )
