# Copyright: (c) 2026, The metalfleet.gpustack contributors
# SPDX-License-Identifier: GPL-3.0-or-later

"""A plot with logarithmic axes as SVG: lines over the number of nodes. The same text for the same figures."""

from __future__ import annotations

import dataclasses
import html
import math
import typing as t

_WIDTH, _HEIGHT = 470, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 62, 12, 40, 46
# Okabe and Ito: also told apart by those who do not see all colours.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
_LEGEND_ROW = 17


@dataclasses.dataclass(frozen=True)
class Panel:
    """One plot. lines: name -> points (x, y), both above 0."""

    title: str
    y_label: str
    lines: t.Mapping[str, t.Sequence[t.Tuple[float, float]]]


class _Scale:
    """From a value to a place on an axis, over whole powers of ten."""

    def __init__(self, values: t.Iterable[float], start: float, end: float) -> None:
        logarithms = [math.log10(value) for value in values]
        self.low = math.floor(min(logarithms))
        self.high = max(math.ceil(max(logarithms)), self.low + 1)
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        share = (math.log10(value) - self.low) / (self.high - self.low)
        return self._start + share * (self._end - self._start)

    def ticks(self) -> t.List[float]:
        return [10.0**power for power in range(self.low, self.high + 1)]


def draw(panels: t.Sequence[Panel], x_label: str) -> str:
    """An SVG document with the panels side by side, and one legend below."""
    names = list(dict.fromkeys(name for panel in panels for name in panel.lines))
    colours = {name: _COLOURS[number % len(_COLOURS)] for number, name in enumerate(names)}
    width = _WIDTH * len(panels)
    rows = math.ceil(len(names) / 4)
    height = _HEIGHT + 10 + rows * _LEGEND_ROW
    size = f'width="{width}" height="{height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {width} {height}" font-family="sans-serif" font-size="12">',
        f'<rect {size} fill="#ffffff"/>',
    ]
    for number, panel in enumerate(panels):
        parts += [f'<g transform="translate({number * _WIDTH} 0)">', *_panel(panel, x_label, colours), "</g>"]
    for number, name in enumerate(names):
        x, y = 62 + (number % 4) * (width - 80) / 4, _HEIGHT + 8 + (number // 4) * _LEGEND_ROW
        parts.append(f'<rect x="{x:.1f}" y="{y - 9:.1f}" width="14" height="10" fill="{colours[name]}"/>')
        parts.append(_text(x + 20, y, name, "start"))
    return "\n".join([*parts, "</svg>", ""])


def _panel(panel: Panel, x_label: str, colours: t.Mapping[str, str]) -> t.List[str]:
    points = [point for line in panel.lines.values() for point in line]
    parts = [_text(_WIDTH / 2, 22, panel.title, "middle", 'font-size="14"')]
    if not points:
        return [*parts, _text(_WIDTH / 2, _HEIGHT / 2, "not measured yet", "middle")]
    x = _Scale((point[0] for point in points), _LEFT, _WIDTH - _RIGHT)
    y = _Scale((point[1] for point in points), _HEIGHT - _BOTTOM, _TOP)
    for tick in x.ticks():
        parts.append(f'<path d="M{x(tick):.1f} {_TOP}V{_HEIGHT - _BOTTOM}" stroke="#dddddd"/>')
        parts.append(_text(x(tick), _HEIGHT - _BOTTOM + 17, f"{tick:g}", "middle"))
    for tick in y.ticks():
        parts.append(f'<path d="M{_LEFT} {y(tick):.1f}H{_WIDTH - _RIGHT}" stroke="#dddddd"/>')
        parts.append(_text(_LEFT - 6, y(tick) + 4, f"{tick:g}", "end"))
    for name, line in panel.lines.items():
        places = [(x(point[0]), y(point[1])) for point in sorted(line)]
        if len(places) > 1:
            joined = " ".join(f"{across:.1f},{down:.1f}" for across, down in places)
            parts.append(f'<polyline points="{joined}" fill="none" stroke="{colours[name]}" stroke-width="2"/>')
        parts += [f'<circle cx="{across:.1f}" cy="{down:.1f}" r="3.5" fill="{colours[name]}"/>' for across, down in places]
    parts.append(_text(_WIDTH / 2, _HEIGHT - 10, x_label, "middle"))
    turned = f'transform="rotate(-90 16 {_HEIGHT / 2:.1f})"'
    return [*parts, _text(16, _HEIGHT / 2, panel.y_label, "middle", turned)]


def _text(x: float, y: float, text: str, anchor: str, more: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{more and " " + more}>{html.escape(text)}</text>'
