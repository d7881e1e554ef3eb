"""What happens before the smoke test's script begins."""

from pathlib import Path

from deploy.smoke import SmokeTest
from tests.helpers.endpoint import Reply, Sent, endpoint
from tests.helpers.waiting import HANG_S


def test_the_script_begins_once_the_new_model_answers(tmp_path: Path) -> None:
    """A provider may lead to the previous version for a moment."""
    began = tmp_path / "began"
    early: list[bool] = []

    def answer(_: Sent) -> Reply:
        early.append(began.exists())
        return Reply(200, {"version": "1", "sha256": ("a" if len(early) < 3 else "b") * 64})

    script = tmp_path / "test.sh"
    script.write_text(f'touch "{began}"\n')
    with endpoint(answer) as (url, _):
        SmokeTest(script, HANG_S, 0.01).run(url, "b" * 64)
    assert early == [False] * 3
    assert began.exists()
