"""The terminal's text as an SVG that moves by itself: one column of lines that steps upwards.

Lines are never changed once they are there, so two animations do: one scrolls the column, one moves the cover
under which the next lines wait.
"""

from html import escape

from filming.film import Scene
from filming.screen import COLUMNS, Screen
from filming.timing import compress

_CHARACTER, _ROW, _ROWS, _PAD, _BAR = 8.43, 19, 24, 16, 30
_WAIT_S, _SCENE_S, _LAST_S = 0.8, 17.0, 4.0
_COLOURS = {
    "command": "#fff;font-weight:bold",
    "heading": "#8fb4ff;font-weight:bold",
    "good": "#7ddc9b",
    "bad": "#ff8f87",
    "soft": "#8a91a8",
    "plain": "#d7dbe8",
}


def animate(scenes: list[Scene]) -> str:
    """Return the SVG, which begins again when it has ended."""
    screen, counts, began = Screen(), [(0.0, 0)], 0.0
    for scene in scenes:
        screen.write(f"# {scene.caption}\n")
        for moment in compress(scene.events, _WAIT_S, _SCENE_S):
            screen.write(moment.text)
            counts.append((began + moment.at, len(screen.lines())))
        began = counts[-1][0]
        screen.write("\n")
    seconds = began + _LAST_S
    lines = screen.lines()
    width, height = round(COLUMNS * _CHARACTER + 2 * _PAD), _ROWS * _ROW + 2 * _PAD + _BAR
    texts = "".join(
        f'<text class="{line.kind[0]}" y="{(number + 1) * _ROW - 5}">{escape(line.text, quote=False)}</text>'
        for number, line in enumerate(lines)
        if line.text
    )
    scroll = _keyframes("s", [(when, -_ROW * max(0, count - _ROWS)) for when, count in counts], seconds)
    cover = _keyframes("c", [(when, _ROW * min(count, _ROWS)) for when, count in counts], seconds)
    classes = "".join(f".{kind[0]}{{fill:{colour}}}" for kind, colour in _COLOURS.items())
    end = _ROW * (_ROWS - len(lines)) if len(lines) > _ROWS else 0
    dots = "".join(f'<circle cx="{_PAD + 5 + 18 * dot}" cy="15" r="5" fill="#4a5068"/>' for dot in range(3))
    # Where motion is not wanted, the end stands still.
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img"><title>A change, a release, a deployment and a rollback, in a terminal'
        f"</title><style>text{{font:14px 'DejaVu Sans Mono',Menlo,Consolas,monospace;white-space:pre}}"
        f"{classes}#l{{transform:translateY({end}px)}}#k{{transform:translateY({_ROW * _ROWS}px)}}"
        f"@media not (prefers-reduced-motion:reduce){{#l{{animation:s {seconds:.1f}s step-end infinite}}"
        f"#k{{animation:c {seconds:.1f}s step-end infinite}}}}{scroll}{cover}</style>"
        f'<rect width="{width}" height="{height}" rx="8" fill="#10131f"/>{dots}'
        f'<svg x="{_PAD}" y="{_BAR + _PAD}" width="{width - 2 * _PAD}" height="{_ROWS * _ROW}">'
        f'<g id="l">{texts}</g><rect id="k" width="100%" height="100%" fill="#10131f"/></svg></svg>\n'
    )


def _keyframes(name: str, values: list[tuple[float, float]], seconds: float) -> str:
    """Return a rule of keyframes; what doesn't change is left out."""
    rules, last = [], None
    for when, value in values:
        if value != last:
            rules.append(f"{100 * when / seconds:.2f}%{{transform:translateY({value:g}px)}}")
            last = value
    return f"@keyframes {name}{{{''.join(rules)}100%{{transform:translateY({last:g}px)}}}}"
