"""The command that embeds a model in the service."""

from pathlib import Path

import pytest

from scripts import default_model


@pytest.fixture
def embed(make_model, tmp_path, monkeypatch):
    """Embed a model with these shortfalls; return the exit code and what is embedded afterwards."""
    monkeypatch.chdir(tmp_path)
    for folder in ("models", "app/default", "docs"):
        Path(folder).mkdir(parents=True)
    default_model.DEFAULT.write_bytes(b"the old model")

    def run(*arguments: str, **changes: object) -> tuple[int, bytes]:
        make_model("models/model.pt", card="# Größe".encode(), **changes)
        monkeypatch.setattr("sys.argv", ["default_model", *arguments])
        return default_model.main(), default_model.DEFAULT.read_bytes()

    return run


def test_model_and_card_are_copied(embed):
    assert embed() == (0, Path("models/model.pt").read_bytes())
    assert default_model.CARD.read_text("utf-8") == "# Größe"


def test_a_candidate_is_embedded_only_on_demand(embed, capsys):
    lacking = {"shortfalls": ["accuracy: 0.6"]}
    assert embed(**lacking) == (1, b"the old model")
    assert not default_model.CARD.exists()
    assert "only a candidate (accuracy: 0.6); add --candidate" in capsys.readouterr().err
    assert embed("--candidate", **lacking) == (0, Path("models/model.pt").read_bytes())


def test_what_is_no_model_is_refused(embed, capsys):
    embed()
    for change in (lambda path: path.write_text("no model"), Path.unlink):
        default_model.DEFAULT.write_bytes(b"the old model")
        change(Path("models/model.pt"))
        assert default_model.main() == 1
        assert default_model.DEFAULT.read_bytes() == b"the old model"
    assert capsys.readouterr().err.count("error: models/model.pt: ") == 2
