"""What becomes of answers on the page: kept, downloaded, judged; and the examples of code, executed."""

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.app.routes.test_page_browser import (
    CAT,
    RED,
    card,
    choose,
    colour,
    counted_feedback,
    metric,
    send_feedback,
)
from tests.conftest import REQUIRE_ALL, colour_graph, not_installed
from tests.helpers.chromium import opened, wait_until
from tests.helpers.paths import ROOT
from tests.helpers.service import Service, running

DOG = ROOT / "tests" / "photos" / "dog.jpg"
RIGHT = 'feedback_total{actual="cat",predicted="cat"}'
WRONG = 'feedback_total{actual="dog",predicted="cat"}'


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running(LOG_LEVEL="error", UNKNOWN="off") as service:
        service.wait()
        yield service


def test_answers_survive_reload_and_back(page: Page) -> None:
    choose(page, CAT)
    expect(card(page, "cat.jpg").locator(".label")).to_have_text("cat")
    choose(page, DOG)
    expect(card(page, "dog.jpg").locator(".label")).to_have_text("dog")
    card(page, "cat.jpg").get_by_role("button", name="The prediction is right").click()
    before = page.locator(".photo .bars").all_inner_texts()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.reload()
    expect(page.locator(".photo")).to_have_count(2)
    assert page.locator(".photo .name").all_inner_texts() == ["dog.jpg", "cat.jpg"]
    assert page.locator(".photo .bars").all_inner_texts() == before
    for preview in page.locator(".preview").all():
        wait_until(page, lambda preview=preview: preview.evaluate("e => e.naturalWidth") == 240)  # type: ignore[misc]
    expect(card(page, "cat.jpg").locator(".thanks")).to_have_text("Thank you.")  # sent on the way
    expect(card(page, "cat.jpg").locator(".up")).to_have_attribute("aria-pressed", "true")
    expect(card(page, "dog.jpg").get_by_role("button", name="The prediction is right")).to_be_enabled()
    assert not [url for url in asked if "/predict" in url]
    page.get_by_role("link", name="Model card").click()
    page.go_back()
    expect(page.locator(".photo")).to_have_count(2)
    card(page, "cat.jpg").get_by_role("button", name="Remove cat.jpg").click()
    page.reload()
    expect(page.locator(".photo")).to_have_count(1)
    page.get_by_role("button", name="Clear all").click()
    page.reload()
    expect(page).to_have_title("Cat or dog?")
    expect(page.locator(".photo")).to_have_count(0)
    assert page.evaluate("sessionStorage.length") == 0


def test_what_is_kept_is_bounded_and_may_be_damaged(page: Page) -> None:
    keep = "(all) => import('/static/store.js').then((store) => { store.keep(all); return store.kept() })"
    answer = {"label": "cat", "probabilities": {"cat": 1, "dog": 0}, "model": {}, "request_id": "1"}
    many = [{"name": f"{number}", "seen": "", "answer": answer} for number in range(200)]
    kept = page.evaluate(keep, many)
    assert [record["name"] for record in kept] == [f"{number}" for number in range(50)]
    long = [{"name": "x" * 900_000} for _ in range(4)]
    assert len(page.evaluate(keep, long)) == 2
    page.evaluate("sessionStorage.clear(); sessionStorage.filled = 'x'.repeat(4_000_000)")
    assert len(page.evaluate(keep, long)) == 1  # as much as fits, and no error
    page.evaluate("sessionStorage.removeItem('filled')")
    for damaged in ("{", "7", '[{"name": 1}, null, 3]'):
        page.evaluate("(damaged) => sessionStorage.setItem('answers', damaged)", damaged)
        page.reload()
        expect(page).to_have_title("Cat or dog?")
        choose(page, CAT)
        expect(card(page, "cat.jpg").locator(".label")).to_have_text("cat")


def download(page: Page, kind: str) -> bytes:
    with page.expect_download() as downloaded:
        page.get_by_role("button", name=kind, exact=True).click()
    return Path(downloaded.value.path()).read_bytes()


def test_all_answers_can_be_downloaded(page: Page) -> None:
    names = ['=1+1,"x".jpg', "кот.jpg", "+ü.jpg", "plain.jpg"]
    photo = CAT.read_bytes()
    choose(page, *({"name": name, "mimeType": "image/jpeg", "buffer": photo} for name in names))
    expect(page.locator('[data-state="answered"]')).to_have_count(4)
    content = download(page, "CSV")
    assert content.startswith(b"\xef\xbb\xbf")
    rows = list(csv.DictReader(io.StringIO(content.decode("utf-8-sig"))))
    assert [row["photo"] for row in rows] == ["'" + names[0], names[1], "'" + names[2], names[3]]
    for row in rows:
        assert row["label"] == "cat"
        assert float(row["probability cat"]) + float(row["probability dog"]) == pytest.approx(1)
        assert row["request_id"]
    answers = json.loads(download(page, "JSON"))
    assert [answer["photo"] for answer in answers] == names
    assert answers[0]["probabilities"]["cat"] == float(rows[0]["probability cat"])
    assert "explanation" not in answers[0]


def test_class_names_are_no_formulas_either(browser: Browser, make_model: Callable[..., Path]) -> None:
    classes = ["=cmd|' /C calc'!A0", "@sum", "-1", "plain"]
    model = make_model(graph=colour_graph(outputs=4), classes=classes)
    with running(LOG_LEVEL="error", MODEL_URL=model.as_uri()) as service:
        service.wait()
        with opened(browser, service.port) as page:
            choose(page, colour("rose.jpg", RED))
            expect(page.locator('[data-state="answered"]')).to_have_count(1)
            row = next(csv.DictReader(io.StringIO(download(page, "CSV").decode("utf-8-sig"))))
            assert row["label"] == "'" + classes[0]


def test_feedback_can_be_changed_until_it_is_sent(page: Page, service: Service) -> None:
    right, wrong = metric(service, RIGHT), metric(service, WRONG)
    choose(page, CAT)
    answered = card(page, "cat.jpg")
    answered.get_by_role("button", name="The prediction is right").click()
    expect(answered.locator(".thanks")).to_have_text("Thank you. You can still change this.")
    answered.get_by_role("button", name="The prediction is wrong").click()
    expect(answered.locator(".thanks")).to_have_text("Thank you. Noted as dog. You can still change this.")
    expect(answered.locator(".up")).to_have_attribute("aria-pressed", "false")
    expect(answered.locator(".down")).to_have_attribute("aria-pressed", "true")
    send_feedback(page)
    counted_feedback(service, page, WRONG, wrong + 1)
    assert metric(service, RIGHT) == right
    expect(answered.locator(".up")).to_be_disabled()


def test_feedback_is_sent_after_a_while_and_when_its_photo_goes(browser: Browser, service: Service) -> None:
    before = metric(service, RIGHT)
    with opened(browser, service.port) as page:
        page.clock.install()
        page.reload()
        choose(page, CAT)
        page.get_by_role("button", name="The prediction is right").click()
        page.clock.run_for(7000)
        assert metric(service, RIGHT) == before
        page.clock.run_for(2000)
        expect(page.locator(".thanks")).to_have_text("Thank you.")
        counted_feedback(service, page, RIGHT, before + 1)
    with opened(browser, service.port) as page:
        choose(page, CAT)
        page.get_by_role("button", name="The prediction is right").click()
        page.get_by_role("button", name="Remove cat.jpg").click()
        counted_feedback(service, page, RIGHT, before + 2)
        choose(page, CAT)
        page.get_by_role("button", name="The prediction is right").click()
        page.goto("about:blank")
        counted_feedback(service, page, RIGHT, before + 3)


def snippets(browser: Browser, port: int) -> dict[str, str]:
    with opened(browser, port, permissions=["clipboard-read", "clipboard-write"]) as page:
        page.get_by_text("Use it from your own code").click()
        codes = {}
        for language in ("curl", "Python", "JavaScript"):
            shown = page.locator(f'.snippet[data-language="{language}"]')
            shown.get_by_role("button", name=f"Copy the {language} example").click()
            expect(shown.get_by_role("button")).to_have_text("Copied")
            codes[language] = page.evaluate("navigator.clipboard.readText()")
            assert codes[language] == shown.locator("code").inner_text()
        return codes


@pytest.mark.parametrize("key", ["", "open-sesame"])
def test_the_examples_of_code_work(browser: Browser, tmp_path: Path, key: str) -> None:
    shutil.copy(CAT, tmp_path / "photo.jpg")
    with running(LOG_LEVEL="error", API_KEYS=key) as service:
        service.wait()
        codes = snippets(browser, service.port)
        commands = {
            "curl": ["bash", "-c", codes["curl"]],
            "Python": [sys.executable, "-c", codes["Python"]],
            "JavaScript": ["node", "--input-type=module", "-e", codes["JavaScript"]],
        }
        for language, command in commands.items():
            if not shutil.which(command[0]):
                assert not REQUIRE_ALL, not_installed(command[0])
                continue
            done = subprocess.run(
                command, cwd=tmp_path, env=os.environ | {"API_KEY": key}, capture_output=True, text=True
            )
            assert done.returncode == 0, done.stderr
            assert "cat" in done.stdout, language
            assert "probabilities" in done.stdout or done.stdout.startswith("cat "), language


def test_the_example_for_browsers_works(page: Page) -> None:
    """Node.js may be missing; in a browser, only the photo comes from elsewhere."""
    code = page.locator('.snippet[data-language="JavaScript"] code').text_content() or ""
    code = code.replace('import { openAsBlob } from "node:fs";', "").replace(
        'await openAsBlob("photo.jpg")', "await (await fetch('static/examples/cat.jpg')).blob()"
    )
    logged: list[str] = []
    page.on("console", lambda message: logged.append(message.text))
    page.evaluate(f"(async () => {{ {code} }})()")
    wait_until(page, lambda: logged)
    assert logged[0].startswith("cat ")
