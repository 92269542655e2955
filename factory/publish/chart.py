"""Geometry of the page's charts: from numbers to places, which the template draws as inline SVG.

Places are percent of the plot's width and pixels of its height, so text keeps its size on any screen; the polylines of
curves lie in a plot of 1000 x 1000 units that is stretched, with strokes that are not. Zero is on the axis of
every curve.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

Point = tuple[float, float]
_SPAN = 1000.0
_SMOOTH_FROM = 24
_Z95 = 1.96
_LEAST, _MOST = 1e-200, 1e200  # beyond these, sums and spans of doubles vanish or overflow


@dataclass(frozen=True, slots=True)
class Tick:
    """A mark on an axis: `at` is percent from the left, or from the top."""

    at: float
    label: str


@dataclass(frozen=True, slots=True)
class Line:
    """One curve: `points` as SVG has them; `trend`, its moving mean, is empty where there are few points."""

    name: str
    points: str
    trend: str


@dataclass(frozen=True, slots=True)
class LineChart:
    """Curves over steps. `description` says in words what they show."""

    title: str
    description: str
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    note: str


def line_chart(title: str, steps: Sequence[float], series: Mapping[str, Sequence[float | None]],
               most: int = 240, *, noisy: bool = False) -> LineChart | None:
    """Curves over `steps`; None when no series has two numbers. Where a series has more than `most` points, one
    point is the mean of several. `noisy` curves get a moving mean."""
    found = {name: points for name, values in series.items() if len(points := _finite(steps, values)) > 1}
    if not found:
        return None
    per_point = max(1, math.ceil(max(len(points) for points in found.values()) / most))
    drawn = {name: _buckets(points, per_point) for name, points in found.items()}
    every = [point for points in drawn.values() for point in points]
    x_axis = (min(x for x, _ in every), max(x for x, _ in every))
    y_axis = _y_axis(min(y for _, y in every), max(y for _, y in every))
    window = max(2, max(len(points) for points in drawn.values()) // 10)
    smooth = noisy and max(len(points) for points in drawn.values()) >= _SMOOTH_FROM
    lines = tuple(Line(name, _places(points, x_axis, y_axis),
                       _places(_moving_mean(points, window), x_axis, y_axis) if smooth else "")
                  for name, points in drawn.items())
    note = f"Each point is the mean of {per_point} logged steps. " if per_point > 1 else ""
    note += f"Bold: mean of the last {window} points." if smooth else ""
    return LineChart(title, _describe(found), lines, _x_ticks(*x_axis),
                     tuple(Tick(100 - _share(mark, *y_axis) * 100, figure(mark)) for mark in ticks(*y_axis)),
                     note.strip())


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """About `wanted` round numbers from `low` to `high`."""
    step = _round_step((high - low) / wanted)
    return [index * step for index in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def wilson(share: float, count: float) -> tuple[float, float]:
    """The 95 % interval of a share measured on `count` cases (Wilson 1927, score interval)."""
    if count <= 0:
        return 0.0, 1.0
    square = _Z95**2
    middle = (share + square / (2 * count)) / (1 + square / count)
    half = _Z95 * math.sqrt(share * (1 - share) / count + square / (4 * count**2)) / (1 + square / count)
    return max(0.0, middle - half), min(1.0, middle + half)


def figure(value: float) -> str:
    """A number as short as it can be read."""
    if value and abs(value) < 0.001:
        return f"{value:.1e}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def _round_step(raw: float) -> float:
    power: float = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= raw * (1 - 1e-9))


def _y_axis(low: float, high: float) -> Point:
    """Zero is on it; above the highest value is a little room."""
    low, high = min(low, 0.0), max(high, 0.0)
    return (low, high + 0.04 * (high - low) if high else high) if high - low > _LEAST else (0.0, 1.0)


def _x_ticks(first: float, last: float) -> tuple[Tick, ...]:
    inner = ticks(first, last) if last - first > _LEAST else []
    keep = [mark for mark in inner if 0.12 < _share(mark, first, last) < 0.76]
    return tuple(Tick(_share(mark, first, last) * 100, figure(mark)) for mark in (first, *keep, last))


def _finite(steps: Sequence[float], values: Sequence[float | None]) -> list[Point]:
    pairs = ((float(step), float(value)) for step, value in zip(steps, values, strict=True)
             if step is not None and value is not None)
    return sorted(pair for pair in pairs if max(abs(pair[0]), abs(pair[1])) < _MOST)


def _buckets(points: list[Point], size: int) -> list[Point]:
    if size == 1:
        return points
    cuts = [points[at:at + size] for at in range(0, len(points), size)]
    return [(sum(x for x, _ in cut) / len(cut), sum(y for _, y in cut) / len(cut)) for cut in cuts]


def _moving_mean(points: list[Point], window: int) -> list[Point]:
    return [(points[at][0], sum(y for _, y in points[at + 1 - window:at + 1]) / window)
            for at in range(window - 1, len(points))]


def _share(value: float, low: float, high: float) -> float:
    return min(1.0, max(0.0, (value - low) / (high - low))) if high > low else 0.5


def _places(points: Sequence[Point], x_axis: Point, y_axis: Point) -> str:
    return " ".join(f"{_share(x, *x_axis) * _SPAN:.0f},{(1 - _share(y, *y_axis)) * _SPAN:.0f}" for x, y in points)


def _describe(found: Mapping[str, list[Point]]) -> str:
    edge = {name: max(1, len(points) // 10) for name, points in found.items()}
    said = (f"{name}: mean of the first tenth {figure(sum(y for _, y in points[:edge[name]]) / edge[name])}, of the "
            f"last tenth {figure(sum(y for _, y in points[-edge[name]:]) / edge[name])}"
            for name, points in found.items())
    return "; ".join(said) + "."
