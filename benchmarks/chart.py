"""Bars with their values written beside them, as SVG that suits light and dark pages."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 760
_MARGIN = 24
_LABEL = 190
_VALUE = 130
_BAR = WIDTH - 2 * _MARGIN - _LABEL - _VALUE
_ROW = 26
_TITLE = 34
_THICK = 16

STYLE = """
.card { fill: #ffffff; stroke: #d0d7de }
text { font: 13px system-ui, -apple-system, 'Segoe UI', sans-serif; fill: #1f2328 }
.title { font-weight: 600 }
.note { fill: #59636e }
.bar { fill: #aeb7c1 }
.tail { fill: #aeb7c1; opacity: .4 }
.ours.bar { fill: #0969da }
.ours.tail { fill: #0969da; opacity: .25 }
.ours { font-weight: 600 }
@media (prefers-color-scheme: dark) {
  .card { fill: #0d1117; stroke: #3d444d }
  text { fill: #f0f6fc }
  .note { fill: #9198a1 }
  .bar, .tail { fill: #656c76 }
  .ours.bar, .ours.tail { fill: #4493f8 }
}
"""


@dataclass(frozen=True, slots=True)
class Bar:
    """A figure.

    Attributes:
        text: The value as it is written.
        tail: End of the pale bar behind, None for none.
        ours: Whether it stands out.
    """

    label: str
    value: float
    text: str
    tail: float | None = None
    ours: bool = False


@dataclass(frozen=True, slots=True)
class Panel:
    """Bars on one scale, which begins at zero."""

    title: str
    note: str
    bars: Sequence[Bar]


def svg(panels: Sequence[Panel], *, label: str) -> str:
    """Return the picture; `label` says to those who cannot see it what it shows."""
    lines: list[str] = []
    y = _MARGIN
    for panel in panels:
        lines += _panel(panel, y)
        y += _TITLE + _ROW * len(panel.bars) + _MARGIN
    size = f'width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{escape(label)}">'
    card = f'<rect class="card" x=".5" y=".5" width="{WIDTH - 1}" height="{y - 1}" rx="6"/>'
    return "\n".join([head, f"<style>{STYLE}</style>", card, *lines, "</svg>", ""])


def _panel(panel: Panel, y: int) -> Iterator[str]:
    longest = max(max(bar.value, bar.tail or 0.0) for bar in panel.bars)
    yield f'<text class="title" x="{_MARGIN}" y="{y + 14}">{escape(panel.title)}</text>'
    yield f'<text class="note" x="{WIDTH - _MARGIN}" y="{y + 14}" text-anchor="end">{escape(panel.note)}</text>'
    for place, bar in enumerate(panel.bars):
        yield from _bar(bar, y + _TITLE + place * _ROW, _BAR / longest)


def _bar(bar: Bar, y: int, scale: float) -> Iterator[str]:
    left, middle = _MARGIN + _LABEL, y + 13
    ours = "ours" if bar.ours else "theirs"
    yield f'<text class="{ours}" x="{left - 10}" y="{middle}" text-anchor="end">{escape(bar.label)}</text>'
    for kind, value in (("tail", bar.tail), ("bar", bar.value)):
        if value is not None:
            width = max(value * scale, 1.0)
            yield f'<rect class="{ours} {kind}" x="{left}" y="{y}" width="{width:.1f}" height="{_THICK}" rx="2"/>'
    end = left + max(bar.value, bar.tail or 0.0) * scale
    yield f'<text class="{ours}" x="{end + 8:.1f}" y="{middle}">{escape(bar.text)}</text>'
