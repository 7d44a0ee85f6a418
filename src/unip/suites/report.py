"""The files that a bench leaves for people: tables in three formats, a plot, and a page with all of it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.text import Annotation
from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter
from matplotlib.transforms import Bbox

from unip.outputs import write_text, writing
from unip.pages import file_uri, page_template
from unip.suites.config import LATEX_FILE, MARKDOWN, PAGE, PLOT
from unip.suites.results import DoneCell, write_results
from unip.suites.suite import Suite, budget_text
from unip.suites.tables import ReportTable, all_tables, as_markdown, average, by_budget, by_init
from unip.version import __version__

COLUMNS = 2  # of panels in the plot


def write_report(suite: Suite, done: list[DoneCell], out: Path) -> list[ReportTable]:
    """Write the results, the tables, the plot and the page of the cells that are done; return the tables."""
    tables = all_tables(suite, done)
    total = len(suite.cells())
    state = f"{len(done)} of {total} cells" + ("" if len(done) == total else "; the others are not done")
    write_results(done, out)
    head = f"## {as_markdown(suite.title)}\n\n{state}.\n\n"
    write_text(out / MARKDOWN, head + "\n".join(table.markdown() for table in tables))
    write_text(out / LATEX_FILE, "\n".join(table.latex() for table in tables))
    picture = plot_cost(suite, done)
    if picture:
        with writing(out / PLOT) as temporary:
            temporary.write_bytes(picture)
    devices = sorted({cell.record.device for cell in done})
    versions = sorted({f"torch {cell.record.versions['torch']}" for cell in done})
    page = page_template("unip.suites", "report.html.j2").render(
        title=suite.title,
        state=state,
        made=f"unip {__version__}, {', '.join(versions)}, on {', '.join(devices)}",
        tables=[table.html() for table in tables],
        plot=file_uri(picture, "image/png") if picture else "",
        joined=any(init.method for init in suite.inits.values()),
    )
    write_text(out / PAGE, page)
    return tables


@dataclass(frozen=True)
class Point:
    """An init in a panel of the plot.

    Attributes:
        name: Of the init.
        method: What it belongs to; points of one method have one colour.
        gflops: Cost of a crop.
        miou: Mean over seeds and data sets, in percent.
        sd: Over seeds, in percent; 0 for one seed.
        colour: A name of matplotlib's.
    """

    name: str
    method: str
    gflops: float
    miou: float
    sd: float
    colour: str


def plot_cost(suite: Suite, done: list[DoneCell]) -> bytes:
    """Draw mIoU, the mean over data sets, against GFLOPs: a panel for each protocol and label budget.

    Inits of one ``method`` are joined by a line. Where all cost the same, a panel has a row for each init instead.
    Returns a PNG file, empty where no cost is known.
    """
    panels = [(budget, points) for budget, cells in by_budget(done).items() if (points := _points(suite, cells))]
    if not panels:
        return b""
    rows = -(-len(panels) // COLUMNS)
    columns = min(COLUMNS, len(panels))
    only_rows = all(_equal_costs(points) for _, points in panels)
    height = 0.5 * max(len(points) for _, points in panels) + 1.4 if only_rows else 4.4
    figure = Figure(figsize=(6.4 * columns, height * rows), layout=ConstrainedLayoutEngine(h_pad=0.12), dpi=120)
    FigureCanvasAgg(figure)
    for place, (budget, points) in enumerate(panels, 1):
        axes = figure.add_subplot(rows, columns, place)
        (_rows if _equal_costs(points) else _curves)(axes, points)
        axes.set_title(f"{budget[0]}, labels {budget_text(budget[1])}", fontsize=10)
        axes.grid(alpha=0.3)
    spread_labels(figure)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def _points(suite: Suite, inside: list[DoneCell]) -> list[Point]:
    methods = list(dict.fromkeys(init.method or name for name, init in suite.inits.items()))
    points = []
    for init, cells in sorted(by_init(inside).items(), key=lambda item: list(suite.inits).index(item[0])):
        found = average(cells, list(dict.fromkeys(c.axes.dataset for c in cells)))
        cost = next((cell.cost for cell in cells if cell.cost), None)
        if cost is not None and found.count:
            method = suite.inits[init].method or init
            sd = 0.0 if found.count < 2 else 100 * found.sd
            colour = f"C{methods.index(method) % 10}"
            points.append(Point(init, method, cost.flops / 1e9, 100 * found.mean, sd, colour))
    return points


def _equal_costs(points: list[Point]) -> bool:
    return len(points) > 1 and len({point.gflops for point in points}) == 1


def _curves(axes: Axes, points: list[Point]) -> None:
    for method in dict.fromkeys(point.method for point in points):
        curve = sorted((point for point in points if point.method == method), key=lambda point: point.gflops)
        x, y, error = ([getattr(point, name) for point in curve] for name in ("gflops", "miou", "sd"))
        axes.errorbar(x, y, yerr=error, marker="o", capsize=3, color=curve[0].colour, label=method)
        for p in curve:
            place, offset = (p.gflops, p.miou), (6, 4)
            axes.annotate(p.name, place, xytext=offset, textcoords="offset points", fontsize=8, color=p.colour)
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.25, y=0.15)
    axes.set_xlabel("GFLOPs of one crop (log)")
    axes.set_ylabel("test mIoU, %")


def _rows(axes: Axes, points: list[Point]) -> None:
    for p in reversed(points):  # the suite's first on top, in every panel
        axes.errorbar([p.miou], [p.name], xerr=[p.sd], marker="o", capsize=3, color=p.colour)
    low, high = min(p.miou - p.sd for p in points), max(p.miou + p.sd for p in points)
    margin = max(1.0, 0.1 * (high - low))  # points of mIoU
    axes.set_xlim(max(0.0, low - margin), high + margin)
    axes.margins(y=0.1)
    axes.set_xlabel(f"test mIoU, %; each {points[0].gflops:.3g} GFLOPs a crop")


def spread_labels(figure: Figure) -> None:
    """Lift the labels of each panel that would cover one below them, as those of equal points do."""
    figure.canvas.draw()  # only now is it known where they are
    for axes in figure.axes:
        placed: list[Bbox] = []
        for label in sorted(axes.texts, key=lambda text: text.get_window_extent().y0):
            assert isinstance(label, Annotation)
            box = before = label.get_window_extent()
            for below in placed:  # from the lowest up
                if box.overlaps(below):
                    box = box.translated(0, below.y1 - box.y0)
            right, up = label.xyann
            label.xyann = (right, up + (box.y0 - before.y0) * 72 / figure.dpi)
            placed.append(box)
