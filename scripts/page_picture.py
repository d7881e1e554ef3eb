"""Writes docs/page.png: the page with its answers, as Chromium shows them."""

from pathlib import Path

from common.chromium import CHROMIUM
from common.process import service
from playwright.sync_api import expect, sync_playwright

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "page.png"
PHOTOS = [ROOT / "tests" / "photos" / name for name in ("cat.jpg", "other/duck.jpg")]


def main() -> None:
    """Start the service, give the page its photos, ask why, and take the picture."""
    with service() as (url, _), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 900, "height": 980}, reduced_motion="reduce")
        page.goto(url)
        page.locator("#files").set_input_files(PHOTOS)
        expect(page.locator(".photo .label:visible")).to_have_count(len(PHOTOS), timeout=15_000)
        page.locator(".photo", has_text="cat.jpg").locator(".frame").hover()
        page.wait_for_timeout(300)
        page.screenshot(path=TARGET)
        browser.close()


if __name__ == "__main__":
    main()
