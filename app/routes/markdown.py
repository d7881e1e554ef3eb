"""Markdown as HTML for pages. It may come from anyone: nothing of it can become markup of its own."""

import functools
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.DOTALL)


@dataclass(frozen=True)
class Document:
    """A rendered text.

    Attributes:
        html: its markup.
        title: its first heading of level 1; empty: there is none.
        sections: anchor and title of each heading of level 2.
    """

    html: Markup
    title: str = ""
    sections: list[tuple[str, str]] = field(default_factory=list)


@functools.lru_cache(maxsize=4)
def render(text: str) -> Document:
    """Return Markdown as HTML: CommonMark and tables, without raw HTML, images and unsafe links."""
    parser = _parser()
    tokens = parser.parse(_FRONT_MATTER.sub("", text.replace("\r\n", "\n")))
    title, sections, anchors = "", [], dict[str, int]()
    for token, content in itertools.pairwise(tokens):
        if token.type == "heading_open":
            heading = _plain(content.children or [])
            anchor = _anchor(heading, anchors)
            token.attrSet("id", anchor)
            if token.tag == "h1":
                title = title or heading
            elif token.tag == "h2":
                sections.append((anchor, heading))
    # The parser has escaped all of it.
    return Document(Markup(parser.renderer.render(tokens, parser.options, {})), title, sections)  # noqa: S704


@functools.cache
def _parser() -> "MarkdownIt":
    from markdown_it import MarkdownIt  # only at the first request: most processes never get one

    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.add_render_rule("image", _image)
    for side in ("open", "close"):
        parser.add_render_rule(f"th_{side}", _header_cell)
    return parser


def _image(_: Any, tokens: Sequence[Any], index: int, *__: Any) -> str:
    """Show the description: an image elsewhere would tell its host who reads the page."""
    return str(escape(_plain(tokens[index].children or [])))


def _header_cell(renderer: Any, tokens: Sequence[Any], index: int, options: Any, _: Any) -> str:
    """Make an empty header cell an ordinary one: a screen reader would announce an empty header."""
    content = tokens[index + (1 if tokens[index].nesting == 1 else -1)]
    tokens[index].tag = "th" if content.content.strip() else "td"
    markup: str = renderer.renderToken(tokens, index, options, {})
    return markup


def _plain(tokens: Sequence[Any]) -> str:
    return "".join(token.content or _plain(token.children or []) for token in tokens).strip()


def _anchor(heading: str, taken: dict[str, int]) -> str:
    """Return an id as GitHub makes it, so that links within a document work here and there."""
    anchor = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") or "section"
    taken[anchor] = taken.get(anchor, -1) + 1
    return f"{anchor}-{taken[anchor]}" if taken[anchor] else anchor
