"""The pages that are made from Markdown: the model card and the API's reference."""

import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.routes import markdown

HOSTILE = """---
license: mit
---
# A card & more

<script>alert(1)</script> <img src=x onerror=alert(2)> <b>bold</b>

[run](javascript:alert(3)) [data](data:text/html,x) [good](https://example.org "x\\" onclick=alert(4)") ![seen](https://example.org/track.png)

| | a |
| --- | --- |
| b | `<i>` |

## Twice
## Twice
"""


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attributes}
        self.links += [value or "" for name, value in attributes if name == "href"]


BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"


@pytest.fixture
def carded(make_app: Callable[..., Flask], make_model: Callable[..., Path]) -> FlaskClient:
    return make_app(model_url=make_model("carded.pt", card=HOSTILE.encode()).as_uri()).test_client()


@pytest.mark.parametrize(
    "accepted", ["", "*/*", "text/markdown", "application/json", "text/html;q=0.5,text/markdown"]
)
def test_programs_get_the_card_as_it_is(carded: FlaskClient, accepted: str) -> None:
    card = carded.get("/model/card", headers={"Accept": accepted} if accepted else {})
    assert card.headers["Content-Type"] == "text/markdown; charset=utf-8"
    assert card.text == HOSTILE
    assert card.headers["Vary"] == "Accept"


def test_browsers_get_the_card_as_a_page(carded: FlaskClient) -> None:
    card = carded.get("/model/card", headers={"Accept": BROWSER})
    assert card.mimetype == "text/html"
    assert set(card.headers["Vary"].split(", ")) == {"Accept", "Accept-Language"}
    assert "script-src" not in card.headers["Content-Security-Policy"]
    assert "default-src 'none'" in card.headers["Content-Security-Policy"]
    assert "<title>A card &amp; more</title>" in card.text
    assert "license: mit" not in card.text
    for link in re.findall(r'href="(\.\./static/[^"]+)"', card.text):
        with carded.get(link.removeprefix("..")) as answer:
            assert answer.status_code == 200


def test_nothing_of_a_card_becomes_markup_of_its_own(carded: FlaskClient) -> None:
    html = carded.get("/model/card", headers={"Accept": BROWSER}).text
    main = html[html.index("<main>") :]
    elements = Elements()
    elements.feed(main)
    assert not {"script", "img", "b", "i"} & elements.tags
    assert elements.attributes <= {"href", "id", "title"}
    assert all(link.startswith(("https:", "#")) for link in elements.links)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in main
    assert re.search(r'<a href="https://example.org"[^>]*>good</a> seen', main)
    assert re.search(r"<tr>\s*<td></td>\s*<th>a</th>", main)
    assert ('id="twice"' in main, 'id="twice-1"' in main) == (True, True)


def test_long_and_deep_cards_cost_little() -> None:
    for text in (
        "[" * 30_000,
        "> " * 30_000 + "x",
        "*a " * 20_000,
        "`" * 60_000,
        "| a " * 15_000 + "\n|" + "-|" * 15_000,
    ):
        assert markdown.render(text).html


def test_the_reference_shows_every_operation_and_comes_only_from_the_service(client: FlaskClient) -> None:
    page = client.get("/docs", base_url="https://example.org")
    assert page.mimetype == "text/html"
    for path, methods in client.get("/openapi.json").get_json()["paths"].items():
        for method, operation in methods.items():
            assert f"<code>{method.upper()} {path}</code></h2>" in page.text
            assert operation["summary"] in page.text
    assert "curl -F file=@photo.jpg https://example.org/predict" in page.text
    assert "<code>&quot;red&quot;</code> or <code>&quot;blue&quot;</code>" in page.text  # the model's labels
    assert "<script" not in page.text
    assert "unsafe" not in page.headers["Content-Security-Policy"]
    anchors = set(re.findall(r'id="([^"]+)"', page.text))
    for link in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        if link.startswith("#"):
            assert link[1:] in anchors
        else:
            with client.get(f"/{link.removeprefix('./')}") as answer:
                assert answer.status_code == 200, link


@pytest.mark.parametrize("name", ["swagger-ui-bundle.js", "index.html", "..%2fsettings.py"])
def test_there_are_no_files_below_the_reference(client: FlaskClient, name: str) -> None:
    answer = client.get(f"/docs/{name}")
    assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")
