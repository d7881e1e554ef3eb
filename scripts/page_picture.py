"""Take the picture of the service's page, with two classified photos and the evidence for one of them.

It needs chromium and playwright.
"""

from pathlib import Path

from playwright.sync_api import expect, sync_playwright

from scripts.common import arguments
from scripts.common.chromium import launch
from scripts.common.process import ROOT, service

PHOTOS = [ROOT / "tests" / "photos" / name for name in ("cat.jpg", "other/duck.jpg")]


def main() -> None:
    """Start the service, classify the photos on its page, show the evidence, and take the picture."""
    parser = arguments.parser("page_picture", __doc__, "--output page.png")
    parser.add_argument(
        "--output",
        type=Path,
        default=ROOT / "docs" / "page.png",
        help="PNG file to write (default: docs/page.png)",
    )
    output = parser.parse_args().output
    with service() as (url, _), sync_playwright() as playwright:
        browser = launch(playwright.chromium)
        page = browser.new_page(viewport={"width": 900, "height": 980}, reduced_motion="reduce")
        page.goto(url)
        page.locator("#files").set_input_files(PHOTOS)
        expect(page.locator(".photo .label:visible")).to_have_count(len(PHOTOS), timeout=15_000)
        page.locator(".photo", has_text="cat.jpg").locator(".frame").hover()
        page.wait_for_timeout(300)
        page.screenshot(path=output)
        browser.close()


if __name__ == "__main__":
    main()
