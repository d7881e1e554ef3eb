"""The report page holds every section, loads nothing from elsewhere, and escapes every name."""

import json
import re
from pathlib import Path

import pytest

from ml import cli
from ml.__main__ import COMMANDS
from ml.model.errors import PipelineError
from ml.reporting import report
from ml.reporting.rendering import position
from tests.conftest import RED, coloured, encode
from tests.helpers.chromium import launched, opened
from tests.helpers.http_server import file_server
from tests.helpers.params import copy_params, default_params
from tests.helpers.project import FIGURES, make_project
from tests.helpers.reports import CHANGED, leave

EVIL = "<script>alert(1)</script>&\"'"
PARAMS = default_params()


@pytest.fixture
def project(tmp_path, monkeypatch):
    folder = leave(make_project(tmp_path, pictures=0))
    monkeypatch.chdir(folder)
    for name in ("confusion_matrix", "roc", "reliability", "curves", "worst_mistakes"):
        picture = encode(coloured(RED, 600, 400, seed=len(name)), "PNG")
        (folder / f"reports/evaluate/{name}.png").write_bytes(picture)
    (folder / "reports/prepare/contact_sheet.jpg").write_bytes(encode(coloured(RED, 900, 300)))
    return folder


def edit(path, change):
    path = Path(path)
    found = json.loads(path.read_text())
    path.write_text(json.dumps(change(found) or found))


def sections(text):
    """Return the text of each section without markup, by its title."""
    parts = re.findall(r"<section id=.*?<h2>(.*?)</h2>(.*?)</section>", text, re.DOTALL)
    return {title: " ".join(re.sub(r"<[^>]*>", " ", part).split()) for title, part in parts}


def test_every_section_holds_its_results(project):
    text = report.run(PARAMS).read_text()
    found = sections(text)
    expected = {
        "Metrics": [
            "97.00 % correct", "91.50 % to 99.00 %", "log loss 0.1000 0.0500 to 0.1500",
            "recall blue 96.00 %",
        ],
        "Conditions": [
            "only a candidate", "not worse than a linear probe no worse; only the probe on 9",
            "linear probe on the pretrained features 99.11 %", "always the most frequent class 50.22 %",
        ],
        "Promotion": ["champion", "Compared with version 3: better.", "The new model is clearly better"],
        "Calibration": [
            "error 0.0100", "torch network is 1.000", "Warning: the stated probabilities are far off.",
        ],
        "Out-of-distribution photos": [
            "98.11 % detected", "served 1.31 % 0.71 % to 2.39 % 98.11 % 96.61 % to 99.00 % 0.9975",
            "rejects about 1.00 % of the validation photos, at least one of them", "torch, energy 1.31 %",
        ],
        "Stability": ["over the limit: watermarked", "mirrored 1.00 % 0.34 % to 2.90 % 2.00 %", "grey 1"],
        "Slices": [
            "lowest: 87.65 %", "file name Cobalt", "over 112 to 224 33 96.97 %", "84.68 % to 99.46 % 95.12 %",
        ],
        "Worst mistakes": [
            "1 of 2 drawn images get a class", "a wall red 81.00 % 0.730 red", "0.020 unknown",
        ],
        "Photos": ["1,896 photos of 2 classes", "near duplicate 7", "nearly red/2.jpg", "a truncated image"],
        "Training": ["2 epochs in 2 runs of efficientnet_lite0", "40% 0.1000"],
    }  # fmt: skip
    assert list(found) == list(expected)
    for title, parts in expected.items():
        for part in parts:
            assert part in found[title], title
    links, ids = re.findall('href="#(.*?)"', text), re.findall('<section id="(.*?)"', text)
    assert links == ids
    assert text.count('<img src="data:image/') == 6 + 2
    assert len(re.findall(r'class="bar( over)?"', text)) == 13 + 3
    assert text.count('class="bar over"') == 1
    assert text.count("<u style") == 12  # grey has no limit


def test_the_page_loads_nothing_from_elsewhere(project):
    text = report.run(PARAMS).read_text()
    assert "<script" not in text
    assert "default-src 'none'" in text
    assert set(re.findall(r"""(?:src|href|url)[=(]["']?([a-z]+:|#|/)""", text)) == {"data:", "#"}
    assert "http" not in re.sub(r"http-equiv|data:[^\"]*", "", text)


def test_names_are_escaped(project):
    edit("reports/prepare/report.json", lambda r: r["kept"].update({EVIL: r["kept"]["red"]}))
    edit("reports/prepare/report.json", lambda r: r["dropped"].update({EVIL: 1}))
    edit("reports/package/package.json", lambda p: p.update(version=EVIL))
    edit("reports/evaluate/metrics.json", lambda m: m["test"].update({f"recall_{EVIL}": 0.5}))
    edit("reports/evaluate/metrics.json", lambda m: m["known"].update({EVIL: {"refused": 0.1}}))
    edit("reports/evaluate/slices.json", lambda s: s["file_name"].update({EVIL: s["file_name"]["Azure"]}))
    edit("reports/package/stability.json", lambda s: s["changes"].update({EVIL: CHANGED}))
    edit("reports/promotion.json", lambda p: p.update(reasons=[EVIL]))
    edit("reports/package/drawn_images.json", lambda s: [s[0] | {"name": EVIL, "label": EVIL}])
    Path("reports/prepare/dropped.csv").write_text(
        f'path,reason,detail\n"{EVIL.replace(chr(34), chr(34) * 2)}",x,y\n'
    )
    text = report.run(PARAMS).read_text()
    assert "<script" not in text
    assert text.count("&lt;script&gt;alert(1)&lt;/script&gt;&amp;&#34;&#39;") >= 12


def test_a_secret_in_the_source_is_not_shown(project):
    plain = PARAMS.model_dump()
    plain["ingest"]["source"] = "https://me:secret@example.org/a.zip?token=secret"
    text = report.run(type(PARAMS).model_validate(plain)).read_text()
    assert "The source is https://example.org/a.zip" in text
    assert "secret" not in text


def test_sections_of_stages_that_have_not_run_say_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PipelineError, match="no results to report yet"):
        report.run(PARAMS)
    assert not Path("reports").exists()
    Path("reports/prepare").mkdir(parents=True)
    counts = {"kept": {"red": {"train": 8, "val": 1, "test": 1}}, "dropped": {}}
    Path("reports/prepare/report.json").write_text(json.dumps(counts))
    found = sections(report.run(PARAMS).read_text())
    assert found.pop("Photos").startswith("10 photos of 1 classes")
    assert len(found) == 9
    assert all(text == "There is no result yet: run dvc repro ." for text in found.values())


def test_a_small_test_split_is_told(project):
    assert "cross-validated" not in report.run(PARAMS).read_text()
    crossed = FIGURES | {"photos": 60.0, "accuracy": 0.8765, "balanced_accuracy": 0.8765}
    edit("reports/evaluate/metrics.json", lambda m: m.update(cross_validation=crossed))
    found = sections(report.run(PARAMS).read_text())["Conditions"]
    assert "cross-validated on 60 photos of all splits, has an accuracy of 87.65 %" in found


def test_the_table_of_dropped_photos_is_limited(project):
    lines = "".join(f"red/{number}.jpg,broken,x\n" for number in range(1000))
    Path("reports/prepare/dropped.csv").write_text(f"path,reason,detail\n{lines}")
    text = report.run(PARAMS).read_text()
    assert "(800 more are left out)" in text
    assert text.count("red/") == 200


def test_the_gate_is_shown_if_it_judged_this_model(project):
    digest = json.loads(Path("reports/package/package.json").read_text())["sha256"]
    for sha256, shown in ((digest, True), ("0" * 64, False)):
        judged = {"passed": False, "reasons": ["log loss is above"], "candidate": {"sha256": sha256}}
        Path("reports/gate.json").write_text(json.dumps(judged))
        assert ("Release gate: failed; log loss is above." in report.run(PARAMS).read_text()) is shown


def test_the_promotion_is_shown_if_it_is_of_this_model(project):
    assert "Compared with version 3" in report.run(PARAMS).read_text()
    edit("reports/promotion.json", lambda p: p.update(sha256="0" * 64))
    assert "Compared with version 3" not in report.run(PARAMS).read_text()


def test_reports_of_another_version_are_named(project):
    edit("reports/package/stability.json", lambda s: s["changes"]["grey"].pop("share") and s)
    with pytest.raises(PipelineError, match="another version") as error:
        report.run(PARAMS)
    assert "\n" not in str(error.value)


def test_a_broken_gate_report_is_ignored(project):
    for content in ("{", "[]", '{"candidate": null}'):
        Path("reports/gate.json").write_text(content)
        assert "Release gate" not in report.run(PARAMS).read_text()


def test_the_command(project, capsys):
    copy_params(project)
    assert cli.run("ml", "", COMMANDS, ["report", "--out", "other/page.html"]) == 0
    assert "other/page.html: " in capsys.readouterr().out
    assert "Stability" in Path("other/page.html").read_text()
    Path("file").touch()
    with pytest.raises(SystemExit, match=r"error: file/page\.html cannot be written"):
        cli.run("ml", "", COMMANDS, ["report", "--out", "file/page.html"])


def test_positions_on_a_scale():
    assert position(0.6, 0.2, 1.2) == 40
    assert (position(0, 1, 2), position(5, 1, 2)) == (0, 100)
    assert position(0, 0, 0) == 0


@pytest.fixture
def port(project):
    report.run(PARAMS)
    with file_server(project / "reports") as server:
        yield server.server_port


def test_a_browser_shows_it_narrow_and_wide_light_and_dark(port):
    with launched() as browser:
        for width, scheme in ((360, "dark"), (1280, "light")):
            size = {"width": width, "height": 800}
            with opened(browser, port, "/report.html", viewport=size, color_scheme=scheme) as page:
                assert page.evaluate("document.documentElement.scrollWidth") <= width
                assert page.evaluate("[...document.images].every((i) => i.complete && i.naturalWidth)")
                heights = page.evaluate("[...document.querySelectorAll('tr')].map((r) => r.offsetHeight)")
                assert max(heights) < 110  # no name is broken letter by letter
                page.click("text=Stability")
                assert page.locator("#stability h2").is_visible()
                bar, limit = (page.locator(f"#stability .bar {tag}").first.bounding_box() for tag in "bu")
                assert bar["x"] < limit["x"]


assert FIGURES["accuracy"] == 0.97
