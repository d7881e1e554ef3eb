"""When training is due, and the issue about a model that is not in service."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ml import cli
from ml.model.errors import PipelineError
from release import due, issue
from release.__main__ import COMMANDS
from release.github import GitHub
from scripts.standins import github as standin
from scripts.standins.github import TOKEN

REJECTED = {
    "passed": False,
    "reasons": ["accuracy 0.90 is below 0.97 @everyone", "photo by photo, labels: ```worse``` <b>"],
    "table": "new 0.90\nreleased 0.98",
}
PASSED = {"passed": True, "reasons": [], "table": "new 0.99"}
RUN = "https://github.com/acme/cats-vs-dogs/actions/runs/7"


@pytest.fixture
def github(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[standin.GitHub]:
    """A stand-in, and an empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUN_URL", RUN)
    monkeypatch.setenv("GITHUB_SHA", "a" * 40)
    with standin.GitHub().serving() as github:
        for name, value in github.environment().items():
            monkeypatch.setenv(name, value)
        yield github


def report(content: object) -> int:
    """Run the command on a report of the gate."""
    Path("reports").mkdir(exist_ok=True)
    Path("reports/gate.json").write_text(json.dumps(content))
    return cli.run("release", "", COMMANDS, ["issue"])


def test_one_issue_is_opened_updated_and_closed(github: standin.GitHub, capsys) -> None:
    """Neither a pull request with the label nor another issue is touched."""
    github.page_size = 2
    for _ in range(3):
        others = {"title": "a fix", "body": "", "labels": [issue.LABEL], "pull_request": {"url": ""}}
        github.store.open_issue(others)
    github.store.open_issue({"title": issue.TITLE, "body": "without the label"})
    assert report(PASSED) == 0
    assert report(REJECTED) == 0
    (opened,) = github.store.issues[4:]
    assert (opened["title"], opened["labels"]) == (issue.TITLE, [{"name": issue.LABEL}])
    body = opened["body"]
    for part in ("accuracy 0.90 is below 0.97", "released 0.98", f"[last run]({RUN})", "a" * 40):
        assert part in body
    assert body.count("```") == 2  # all text of the report stands in the block
    assert body.index("```text") < body.index("@everyone") < body.index("<b>") < body.rindex("```")
    assert report(REJECTED | {"table": "new 0.91"}) == 0
    assert len(github.store.issues) == 5
    assert "new 0.91" in opened["body"]
    assert "new 0.90" not in opened["body"]
    assert report(PASSED) == 0
    assert opened["state"] == "closed"
    assert len(opened["comments"]) == 2
    assert report(REJECTED) == 0
    assert len(github.store.issues) == 6  # a closed one is history
    lines = capsys.readouterr().out.splitlines()
    assert lines[1:] == ["opened issue 5", "updated issue 5", "closed issue 5", "opened issue 6"]


def test_a_model_that_could_not_be_deployed_is_reported(github: standin.GitHub, monkeypatch, capsys) -> None:
    """Its photos are not noted as rejected: the next run tries again, unless there is a release of them."""
    monkeypatch.setenv("RELEASED", "failure")
    assert report(PASSED) == 0
    (opened,) = github.store.issues
    assert f"No new model could be published or deployed: the [last run]({RUN})" in opened["body"]
    assert issue.rejected_commit(GitHub.from_environment()) == ""
    assert report(REJECTED) == 0
    assert "The gate rejects" in opened["body"]
    Path("reports/gate.json").unlink()
    assert cli.run("release", "", COMMANDS, ["issue"]) == 0
    assert "No new model could be trained" in opened["body"]
    monkeypatch.setenv("RELEASED", "success")
    assert report(PASSED) == 0
    assert opened["state"] == "closed"
    assert capsys.readouterr().out.splitlines() == [
        "opened issue 1",
        *["updated issue 1"] * 2,
        "closed issue 1",
    ]


def test_without_a_decision_of_the_gate_nothing_is_sent(github: standin.GitHub) -> None:
    assert cli.run("release", "", COMMANDS, ["issue"]) == 0
    for content in ([], {}, {"passed": "no", "reasons": [], "table": ""}, {"passed": False, "reasons": []}):
        with pytest.raises(SystemExit, match=r"gate\.json is not a report"):
            report(content)
    assert not github.seen


def test_a_token_without_the_right_is_told_which_one(github: standin.GitHub, monkeypatch) -> None:
    monkeypatch.setenv("GITHUB_TOKEN", f"{TOKEN}_read")
    with pytest.raises(SystemExit, match="issues: write"):
        report(REJECTED)
    monkeypatch.delenv("GITHUB_TOKEN")
    with pytest.raises(SystemExit, match="GITHUB_TOKEN is not set"):
        report(REJECTED)


def test_a_huge_report_stays_below_the_limit_of_an_issue(github: standin.GitHub) -> None:
    assert report(REJECTED | {"table": "x" * 500_000}) == 0
    assert len(github.store.issues[0]["body"]) < 65_536


def git(*arguments: str) -> None:
    identity = ("-c", "user.name=n", "-c", "user.email=e@example.org")
    subprocess.run(["git", *identity, *arguments], check=True, capture_output=True)


def commit(files: dict[str, str]) -> None:
    for name, text in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text)
    git("add", "--all")
    git("commit", "--message", "x")


@pytest.fixture
def released(github: standin.GitHub) -> standin.GitHub:
    """A repository whose latest release, v1.2.3, has two collected photos."""
    git("init", "--quiet", "--initial-branch", "main")
    commit({"params.yaml": "seed: 1\n", due.PHOTOS: "id,day\n1,x\n2,x\n", "docs/text": "a", "ml/code": "a"})
    git("tag", "v1.2.3")
    github.store.add("v1.2.3", {"model.pt": b"model"})
    return github


def ask(capfd: pytest.CaptureFixture[str], *arguments: str) -> dict[str, str]:
    assert cli.run("release", "", COMMANDS, ["due", *arguments]) == 0
    return dict(line.split("=") for line in capfd.readouterr().out.splitlines())


def test_a_training_is_due_if_its_inputs_have_changed(released: standin.GitHub, capfd) -> None:
    assert ask(capfd) == {"due": "false"}
    commit({"docs/text": "b"})
    assert ask(capfd) == {"due": "false"}
    assert ask(capfd, "--always") == {"due": "true", "tag": "v1.2.4"}
    commit({"params.yaml": "seed: 2\n"})
    assert ask(capfd) == {"due": "true", "tag": "v1.2.4"}


@pytest.mark.parametrize(
    "changed", ["ml/new.py", "collected.csv", "collected.dvc", "dvc.lock", "label_decisions.csv"]
)
def test_each_input_counts(released: standin.GitHub, capfd, changed: str) -> None:
    commit({changed: "changed"})
    assert ask(capfd)["due"] == "true"


def test_new_photos_are_counted_since_the_release(released: standin.GitHub, capfd) -> None:
    commit({due.PHOTOS: "id,day\n1,x\n3,x\n4,x\n"})  # 2 was deleted
    assert ask(capfd, "--new-photos", "3") == {"due": "false"}
    assert ask(capfd, "--new-photos", "2") == {"due": "true", "tag": "v1.2.4"}


def test_what_the_gate_has_rejected_is_not_trained_again(
    released: standin.GitHub, capfd, monkeypatch
) -> None:
    commit({"params.yaml": "seed: 2\n", due.PHOTOS: "id,day\n1,x\n2,x\n3,x\n"})
    head = subprocess.run(
        ["git", "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()
    monkeypatch.setenv("GITHUB_SHA", head)
    assert report(REJECTED) == 0
    capfd.readouterr()
    assert ask(capfd) == {"due": "false"}
    assert ask(capfd, "--new-photos", "1") == {"due": "false"}
    assert ask(capfd, "--always")["due"] == "true"
    commit({due.PHOTOS: "id,day\n1,x\n2,x\n3,x\n4,x\n"})
    assert ask(capfd)["due"] == "true"
    assert ask(capfd, "--new-photos", "1")["due"] == "true"
    assert ask(capfd, "--new-photos", "2") == {"due": "false"}


def test_a_bad_model_whose_release_was_marked_is_not_trained_again(released: standin.GitHub, capfd) -> None:
    """The runbook marks it as a prerelease, so that the release before is the latest again."""
    commit({"params.yaml": "seed: 2\n"})
    git("tag", "v1.2.4")
    released.store.add("v1.2.4", {"model.pt": b"bad"}, prerelease=True)
    released.store.add("v1.2.5", {"model.pt": b"of a draft"}, draft=True)
    released.store.add("v9", {"model.pt": b"of a tag that this checkout lacks"}, prerelease=True)
    assert ask(capfd) == {"due": "false"}
    commit({"ml/code": "b"})
    assert ask(capfd) == {"due": "true", "tag": "v1.2.5"}
    git("tag", "v1.2.5")  # nobody has published the draft
    assert ask(capfd) == {"due": "true", "tag": "v1.2.6"}


def test_a_release_without_a_model_counts_for_nothing(released: standin.GitHub, capfd) -> None:
    commit({"params.yaml": "seed: 2\n"})
    git("tag", "docs-2")
    released.store.add("docs-2", {"notes.txt": b"x"})
    assert ask(capfd) == {"due": "true", "tag": "v1.2.4"}


def test_without_issues_a_training_is_still_decided(released: standin.GitHub, capfd) -> None:
    """Forks have issues switched off."""
    released.store.has_issues = False
    commit({"params.yaml": "seed: 2\n"})
    assert cli.run("release", "", COMMANDS, ["due"]) == 0
    output, error = capfd.readouterr()
    assert output == "due=true\ntag=v1.2.4\n"
    assert "switch on Issues in the repository's settings" in error
    assert report(PASSED) == 0
    with pytest.raises(SystemExit, match="switch on Issues in the repository's settings"):
        report(REJECTED)


@pytest.mark.parametrize("sha", ["f" * 40, ""])
def test_a_rejected_commit_that_is_gone_does_not_count(
    released: standin.GitHub, capfd, monkeypatch, sha: str
) -> None:
    monkeypatch.setenv("GITHUB_SHA", sha)
    assert report(REJECTED) == 0
    capfd.readouterr()
    commit({"params.yaml": "seed: 2\n"})
    assert ask(capfd)["due"] == "true"


def test_the_next_tag_is_free(released: standin.GitHub) -> None:
    git("tag", "v1.2.4")
    git("tag", "v1.2.5")
    assert due.next_tag("v1.2.3") == "v1.2.6"
    assert due.next_tag("0.1.9") == "0.1.10"
    with pytest.raises(PipelineError, match=r"release\.yml with a tag of your choice"):
        due.next_tag("spring")


def test_the_first_release(github: standin.GitHub, capfd) -> None:
    git("init", "--quiet")
    commit({due.PHOTOS: "id,day\n1,x\n"})
    assert ask(capfd) == {"due": "true", "tag": "v0.1.0"}
    assert ask(capfd, "--new-photos", "1") == {"due": "true", "tag": "v0.1.0"}
    git("tag", "v0.1.0")  # of a release that was withdrawn
    github.store.add("v0.1.0", {"model.pt": b"bad"}, prerelease=True)
    assert ask(capfd) == {"due": "false"}
    commit({"ml/code": "b"})
    assert ask(capfd) == {"due": "true", "tag": "v0.1.1"}


def test_a_checkout_without_the_tag_is_an_error(released: standin.GitHub) -> None:
    git("tag", "--delete", "v1.2.3")
    with pytest.raises(SystemExit, match="git diff"):
        cli.run("release", "", COMMANDS, ["due"])
