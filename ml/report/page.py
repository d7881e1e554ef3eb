"""A report as one HTML page that needs nothing but itself: a figure for each section, then the sections.

Templates extend `base.html`, whose block `inside` is what they show of a section.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined


@dataclass(frozen=True)
class Part:
    """What each section has.

    Attributes:
        title: of the section; its anchor is made of it.
        figure: the one number to take away; empty: there is nothing yet.
        bad: whether the figure is worse than it should be.
    """

    title: str
    figure: str = ""
    bad: bool = field(default=False, kw_only=True)

    @property
    def anchor(self) -> str:
        """Return a name for links to it."""
        return self.title.lower().replace(" ", "-")


def render(template: Path, sections: Sequence[Part], title: str, subtitle: str, **more: str) -> str:
    """Return the page.

    Args:
        template: extends `base.html`.
        sections: in their order.
        title: of the page.
        subtitle: what it is of.
        more: what the template asks for beside these.
    """
    folders = [template.parent, Path(__file__).parent]
    environment = Environment(loader=FileSystemLoader(folders), autoescape=True, undefined=StrictUndefined)
    page = environment.get_template(template.name)
    return page.render(sections=sections, title=title, subtitle=subtitle, **more)


def write(text: str, out: Path) -> None:
    """Write the page, whole or not at all; its folder is made.

    Raises:
        OSError: it can't be written.
    """
    out.parent.mkdir(parents=True, exist_ok=True)
    partial = out.with_name(f".{out.name}.part")
    partial.write_text(text, "utf-8")
    partial.replace(out)
