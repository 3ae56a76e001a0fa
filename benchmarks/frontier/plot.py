"""docs/frontier.png: time against score, a row of panels for each task and a panel for each kind of frames.

A dot is a row's mean over seeds, a bar from its worst seed to its best; the line is what nothing beats in both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from benchmarks.frontier.results import COLUMNS, SCORES, mean, milliseconds, results_of, shown_rows, values
from benchmarks.frontier.runs import TASKS
from egformer_fast.train.drawing import INK, LINE, MUTED, PAPER, Color, font

PICTURE = Path(__file__).parents[2] / "docs" / "frontier.png"
SHOWN = ("all", "subsets", "dead")
COLORS: tuple[Color, ...] = (
    (214, 39, 40), (31, 119, 180), (44, 160, 44), (148, 103, 189), (140, 86, 75), (127, 127, 127), (227, 140, 20),
    (23, 160, 190),
)  # fmt: skip
PANEL = (380, 300)
MARGIN = (62, 34, 18, 46)  # left, top, right, bottom of a panel's axes
LEGEND = 40


@dataclass(frozen=True)
class Point:
    """time: milliseconds of a frame. scores: one a seed."""

    name: str
    time: float
    scores: tuple[float, ...]

    @property
    def score(self) -> float:
        return mean(list(self.scores))


def points_of(task: str, column: str, budget: str = "steps") -> list[Point]:
    """The rows that have both a time and this score."""
    times = milliseconds(task)
    points = []
    for name, results in results_of(task, budget).items():
        figures = values(results, column, TASKS[task].score)
        if figures and name in times:
            points.append(Point(name, times[name], tuple(figures)))
    return points


def front(points: Sequence[Point]) -> list[Point]:
    """Those that no other point beats in both time and score, by time."""
    best: list[Point] = []
    for point in sorted(points, key=lambda point: (point.time, -point.score)):
        if not best or point.score > best[-1].score:
            best.append(point)
    return best


def draw(path: Path = PICTURE) -> Path:
    """Write the picture. Raises FileNotFoundError: no task has both results and times."""
    tasks = [task for task in TASKS if points_of(task, "all")]
    if not tasks:
        raise FileNotFoundError("no task has results and times; run `python -m benchmarks.frontier run` and `latency`")
    picture = Image.new("RGB", (PANEL[0] * len(SHOWN), PANEL[1] * len(tasks) + LEGEND), PAPER)
    canvas = ImageDraw.Draw(picture)
    names = list(shown_rows(tasks[0]))
    colors = dict(zip(names, COLORS * (1 + len(names) // len(COLORS)), strict=False))
    for line, task in enumerate(tasks):
        for number, column in enumerate(SHOWN):
            corner = (number * PANEL[0], line * PANEL[1])
            title = f"{TASKS[task].title}: {COLUMNS[column]}"
            _panel(canvas, corner, title, SCORES[TASKS[task].score], points_of(task, column), colors)
    _legend(canvas, PANEL[1] * len(tasks) + LEGEND / 2, {shown_rows(tasks[0])[name]: colors[name] for name in names})
    picture.save(path, optimize=True)
    return path


class _Axis:
    """Values of data to pixels, with room around them and round numbers to write beside them."""

    def __init__(self, figures: Sequence[float], begin: float, end: float, low: float | None = None) -> None:
        room = 0.12 * (max(figures) - min(figures)) or 0.05 * abs(max(figures)) or 0.01
        self.low = min(figures) - room if low is None else low
        self.high = max(figures) + room
        self._begin, self._end = begin, end
        self.step = next(s for s in _steps() if (self.high - self.low) / s <= 6)

    def __call__(self, figure: float) -> float:
        return self._begin + (figure - self.low) / (self.high - self.low) * (self._end - self._begin)

    def ticks(self) -> list[float]:
        first = int(self.low / self.step) + (self.low > 0)
        return [n * self.step for n in range(first, int(self.high / self.step) + 1)]


def _steps() -> list[float]:
    return [digit * 10.0**power for power in range(-4, 5) for digit in (1, 2, 5)]


def _panel(
    canvas: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    title: str,
    score: str,
    points: Sequence[Point],
    colors: dict[str, Color],
) -> None:
    left, top = corner[0] + MARGIN[0], corner[1] + MARGIN[1]
    right, bottom = corner[0] + PANEL[0] - MARGIN[2], corner[1] + PANEL[1] - MARGIN[3]
    canvas.text((left, corner[1] + MARGIN[1] / 2), title, INK, font(14), anchor="lm")
    if not points:
        canvas.text(((left + right) / 2, (top + bottom) / 2), "not measured", MUTED, font(13), anchor="mm")
        return
    across = _Axis([point.time for point in points], left, right, low=0)
    upward = _Axis([figure for point in points for figure in point.scores], bottom, top)
    for tick in across.ticks():
        canvas.text((across(tick), bottom + 6), f"{tick:g}", MUTED, font(11), anchor="mt")
    for tick in upward.ticks():
        canvas.line((left, upward(tick), right, upward(tick)), LINE)
        canvas.text(
            (left - 6, upward(tick)), f"{tick:.{3 if upward.step < 0.01 else 2}f}", MUTED, font(11), anchor="rm"
        )
    canvas.line((left, top, left, bottom, right, bottom), MUTED)
    canvas.text(((left + right) / 2, bottom + 32), f"ms at 512x512, one thread; {score}", MUTED, font(11), anchor="mm")
    best = [(across(point.time), upward(point.score)) for point in front(points)]
    canvas.line(best, MUTED, 1)
    for point in points:
        x, y = across(point.time), upward(point.score)
        canvas.line((x, upward(min(point.scores)), x, upward(max(point.scores))), colors[point.name], 2)
        canvas.ellipse((x - 5, y - 5, x + 5, y + 5), colors[point.name])


def _legend(canvas: ImageDraw.ImageDraw, middle: float, entries: dict[str, Color]) -> None:
    x = float(MARGIN[0])
    for label, color in entries.items():
        canvas.ellipse((x - 5, middle - 5, x + 5, middle + 5), color)
        canvas.text((x + 12, middle), label.strip("*"), INK, font(12), anchor="lm")
        x += font(12).getlength(label.strip("*")) + 40
