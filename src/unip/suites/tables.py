"""Tables of cells: means over seeds, differences from the baseline, and the same text as Markdown, LaTeX and HTML."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import TypeVar

import numpy as np

from unip.segmentation.intervals import Interval
from unip.suites.cost import Cost
from unip.suites.folds import PooledRun, pooled_over_folds
from unip.suites.results import CLEAN, DoneCell
from unip.suites.statistics import Spread, paired_over_images, paired_over_seeds, spread
from unip.suites.suite import TRAINED_KINDS, Axes, DatasetEntry, Suite, budget_text

Budget = tuple[str, float]  # protocol and labels
Key = TypeVar("Key")
MARKDOWN = str.maketrans({c: f"\\{c}" for c in "\\`*_[]<>|~&$"})  # those that mean something within a line
LATEX = str.maketrans(
    {
        **{c: f"\\{c}" for c in "&%$#_{}"},
        **{c: f"{{{c}}}" for c in "[]*"},  # after the end of a row they would belong to it
        "±": r"$\pm$",
        "−": "$-$",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "\\": r"\textbackslash{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
    }
)


@dataclass(frozen=True)
class ReportTable:
    """Text in rows and columns, the first column names the row."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def markdown(self) -> str:
        """Return it in Markdown."""
        head, *body = (tuple(map(as_markdown, line)) for line in (self.head, *self.rows))
        lines = [head, ("---", *("---:" for _ in self.head[1:])), *body]
        table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
        note = f"\n{as_markdown(self.note)}\n" if self.note else ""
        return f"### {as_markdown(self.title)}\n\n{table}\n{note}"

    def latex(self) -> str:
        """Return it in LaTeX; it wants the package booktabs."""
        lines = [" & ".join(map(as_latex, line)) + r" \\" for line in (self.head, *self.rows)]
        body = [r"\toprule", lines[0], r"\midrule", *lines[1:], r"\bottomrule"]
        caption = as_latex(self.title + (f". {self.note}" if self.note else ""))
        begin = [r"\begin{table}", r"\centering", rf"\caption{{{caption}}}"]
        columns = rf"\begin{{tabular}}{{l{'r' * (len(self.head) - 1)}}}"
        return "\n".join([*begin, columns, *body, r"\end{tabular}", r"\end{table}"]) + "\n"

    def html(self) -> str:
        """Return it in HTML."""
        head = "".join(f"<th>{escape(cell)}</th>" for cell in self.head)
        body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>\n" for row in self.rows)
        note = f"<p>{escape(self.note)}</p>\n" if self.note else ""
        title = f"<h3>{escape(self.title)}</h3>\n"
        return f'{title}<div class="wide"><table>\n<tr>{head}</tr>\n{body}</table></div>\n{note}'


def as_markdown(text: str) -> str:
    """Return what shows a text as it is, in a line of Markdown."""
    return " ".join(text.splitlines()).translate(MARKDOWN)


def as_latex(text: str) -> str:
    """Return what shows a text as it is, in a line of LaTeX."""
    return " ".join(text.splitlines()).translate(LATEX).replace("--", "-{}-")


def all_tables(suite: Suite, done: list[DoneCell]) -> list[ReportTable]:
    """Return every table that the cells there make."""
    found: list[ReportTable] = []
    for (protocol, label_budget), inside in by_budget(done).items():
        labels = f"{budget_text(label_budget)} {'of the labels' if label_budget <= 1 else 'labelled images'}"
        datasets = list(dict.fromkeys(cell.axes.dataset for cell in inside))
        for dataset in datasets:
            group = by_init(cell for cell in inside if cell.axes.dataset == dataset)
            title = f"{protocol}, {dataset}, {labels}"
            found += [results_table(suite, title, group), classes_table(title, group)]
            if any(cell.corrupted for cells in group.values() for cell in cells):
                found.append(corruptions_table(title, group, suite.corruptions_of(protocol)))
            if any(cell.record.layers_miou for cells in group.values() for cell in cells):
                found.append(layers_table(title, group))
        found += fold_tables(suite, protocol, labels, inside)
        published = suite.published is not None and label_budget == 1 and bool(suite.published.miou.get(protocol))
        if len(datasets) > 1 or published:
            found.append(average_table(suite, protocol, label_budget, inside))
    return found


def results_table(suite: Suite, title: str, group: dict[str, list[DoneCell]]) -> ReportTable:
    """Compare inits: quality, difference from the baseline, cost."""
    compared = suite.baseline in group and len(group) > 1
    head = ["init", "seeds", "mIoU", "foreground mean"]
    head += [f"mIoU less {suite.baseline}", "over seeds", "over images"] if compared else []
    head += ["GFLOPs", "M parameters", "images/s"]
    first = next(iter(group.values()))[0]
    name, lowest = first.floor()
    blank = [""] * (len(head) - 4)
    source = suite.datasets[first.axes.dataset]
    body = [(f"all {name}", "", number(lowest.miou), number(lowest.foreground_miou), *blank)]
    for init, cells in group.items():
        line = [
            init,
            str(len(cells)),
            mean_sd(spread([value(c.record.miou) for c in cells])),
            mean_sd(spread([value(c.record.foreground_miou) for c in cells])),
        ]
        if compared:
            line += ["", "", ""] if init == suite.baseline else differences(cells, group[str(suite.baseline)], source)
        body.append((*line, *costs(cells[-1].cost)))
    notes = [f"Test images: {first.record.images}. Percent; mean ± sample standard deviation over seeds."]
    if compared:
        groups = source.groups(first.images())
        drawn, apart = "the test images", len(set(groups))
        if apart < len(groups):
            drawn = f"groups of test images that belong together ({apart})"
        notes.append(
            f"mIoU less {suite.baseline}: with the seeds that both have. Its 95 % intervals: over seeds by Student's "
            f"t, over images by a paired bootstrap of {drawn}, with the seeds as they are."
        )
    if chosen := _chosen(group):
        notes.append(f"Chosen on val: {chosen}.")
    every = [cell.record.classes for cells in group.values() for cell in cells]
    if len({tuple(row.iou is None for row in classes) for classes in every}) > 1:
        notes.append("Means leave out classes in neither truth nor prediction, which are not the same in all cells.")
    timed = [cell.cost for cells in group.values() for cell in cells if cell.cost]
    if timed:
        sizes = " or ".join(map(str, sorted({cost.speed_size for cost in timed})))
        ways = {(cost.speed_batch, cost.speed_precision, cost.speed_device) for cost in timed}
        how = ", or ".join(f"{batch} at a time in {precision} on {device}" for batch, precision, device in sorted(ways))
        notes.append(
            f"GFLOPs of one crop, two operations for each multiplication. images/s: crops of {sizes} pixels, {how}."
        )
    return ReportTable(title, tuple(head), tuple(body), " ".join(notes))


def fold_tables(suite: Suite, protocol: str, labels: str, inside: list[DoneCell]) -> list[ReportTable]:
    """Compare inits over all folds of a set: the pixels of the folds are added up, then scored.

    A seed counts where it has every fold, so that each image of the set is tested once.

    Args:
        suite: Says which entries are folds of one set.
        protocol: Of the cells, for the titles.
        labels: How many labels they had, for the titles.
        inside: The cells.
    """
    folds: dict[str, list[str]] = {}
    for name, source in suite.datasets.items():
        if source.fold_of is not None:
            folds.setdefault(source.fold_of, []).append(name)
    found = []
    for whole, names in folds.items():
        group = {
            init: pooled_over_folds(cells, {name: suite.datasets[name] for name in names})
            for init, cells in by_init(inside).items()
        }
        group = {init: runs for init, runs in group.items() if runs}
        if group:
            found.append(_fold_table(f"{protocol}, {whole}, {labels}", group, suite.baseline, len(names)))
    return found


def _fold_table(title: str, group: dict[str, list[PooledRun]], baseline: str | None, folds: int) -> ReportTable:
    """Lay out pooled runs of inits."""
    compared = baseline in group and len(group) > 1
    head = ("init", "seeds", "mIoU", *((f"mIoU less {baseline}", "over seeds", "over images") if compared else ()))
    body = []
    for init, runs in group.items():
        line = [init, str(len(runs)), mean_sd(spread([run.scores.miou for run in runs]))]
        if compared:
            line += ["", "", ""] if init == baseline else pooled_differences(runs, group[str(baseline)])
        body.append(tuple(line))
    first = next(iter(group.values()))[0]
    note = (
        f"Each of the {len(first.groups)} images is tested in one of {folds} folds; their pixels are added up, then "
        f"scored. Intervals over images draw whole groups ({len(set(first.groups))})."
    )
    return ReportTable(f"All folds: {title}", head, tuple(body), note)


def pooled_differences(ours: list[PooledRun], theirs: list[PooledRun]) -> list[str]:
    """Return the paired difference in mIoU of runs, and its intervals over seeds and images, if those are the same."""
    base = {run.seed: run for run in theirs}
    pairs = [(run, base[run.seed]) for run in ours if run.seed in base]
    if not pairs:
        return ["-", "-", "-"]
    seeds = paired_over_seeds([a.scores.miou for a, _ in pairs], [b.scores.miou for _, b in pairs])
    mine, others = ([side.matrices for side in sides] for sides in zip(*pairs, strict=True))
    same = len({matrices.shape for matrices in mine + others}) == 1
    images = paired_over_images(mine, others, pairs[0][0].groups) if same else Interval(math.nan, math.nan, math.nan)
    return [number(seeds.mean, sign=True), limits(seeds), limits(images)]


def _chosen(group: dict[str, list[DoneCell]]) -> str:
    """Say which settings trained cells chose, with their seeds."""
    parts = []
    for init, cells in group.items():
        seeds: dict[str, list[str]] = {}
        for cell in cells:
            if cell.record.kind in TRAINED_KINDS and cell.record.chosen:
                values = " ".join(f"{name} {value}" for name, value in cell.record.chosen.items())
                seeds.setdefault(values, []).append(str(cell.axes.seed))
        each = [f"{values} (seed {' '.join(of)})" for values, of in seeds.items()]
        parts += [f"{init} {', '.join(each)}"] if each else []
    return "; ".join(parts)


def differences(cells: list[DoneCell], baseline: list[DoneCell], source: DatasetEntry) -> list[str]:
    """Return the paired difference in mIoU and its intervals over seeds and over the test images of ``source``."""
    one = {cells[0].axes.dataset: source}
    return pooled_differences(pooled_over_folds(cells, one), pooled_over_folds(baseline, one))


def classes_table(title: str, group: dict[str, list[DoneCell]]) -> ReportTable:
    """Show the IoU of each class."""
    names = next(iter(group.values()))[0].names
    body = []
    for init, cells in group.items():
        columns = zip(*([value(row.iou) for row in cell.record.classes] for cell in cells), strict=True)
        body.append((init, *(mean_sd(spread(column)) for column in columns)))
    return ReportTable(f"IoU of each class: {title}", ("init", *names), tuple(body))


def corruptions_table(title: str, group: dict[str, list[DoneCell]], names: Sequence[str]) -> ReportTable:
    """Show mIoU under corruptions, a column for each init; only cells that have all of them count."""
    whole = {init: [cell for cell in cells if set(names) <= set(cell.corrupted)] for init, cells in group.items()}

    def line(name: str, *under: str) -> tuple[str, ...]:
        each = ([float(np.mean([miou_under(cell, u) for u in under])) for cell in cells] for cells in whole.values())
        return name, *(mean_sd(spread(values)) for values in each)

    body = [("seeds", *(str(len(cells)) for cells in whole.values()))]
    body += [line(CLEAN, CLEAN), *(line(name, name) for name in names)]
    body += [line("mean of the corruptions", *names)] if len(names) > 1 else []
    left_out = sum(map(len, group.values())) - sum(map(len, whole.values()))
    note = f"Left out, as not yet evaluated under all of these: {left_out} of the cells." if left_out else ""
    return ReportTable(f"mIoU on corrupted images: {title}", ("corruption", *group), tuple(body), note)


def miou_under(cell: DoneCell, corruption: str) -> float:
    """Return a cell's mIoU under a corruption."""
    return value((cell.record if corruption == CLEAN else cell.corrupted[corruption]).miou)


def layers_table(title: str, group: dict[str, list[DoneCell]]) -> ReportTable:
    """Show the mIoU of every layer's probe, a column for each init."""
    found = {init: [c.record.layers_miou for c in cells if c.record.layers_miou] for init, cells in group.items()}
    depth = max(len(values) for many in found.values() for values in many)
    body = []
    for layer in range(depth):
        columns = ([value(v[layer]) for v in many if layer < len(v)] for many in found.values())
        body.append((str(layer + 1), *(mean_sd(spread(column)) for column in columns)))
    chosen = "; ".join(
        f"{init} {', '.join(sorted({str(cell.record.chosen['layer']) for cell in cells}))}"
        for init, cells in group.items()
    )
    note = f"The other tables show the layer that was given or chosen on val: {chosen}."
    return ReportTable(f"mIoU of each layer's probe: {title}", ("layer", *group), tuple(body), note)


def average_table(suite: Suite, protocol: str, label_budget: float, inside: list[DoneCell]) -> ReportTable:
    """Show the mean over data sets beside published numbers."""
    datasets = list(suite.datasets)
    theirs = suite.published.miou.get(protocol, {}) if suite.published is not None and label_budget == 1 else {}
    body = []
    group = by_init(inside)
    for init in dict.fromkeys([*group, *(name for name in suite.inits if name in theirs)]):
        cells = group.get(init, [])
        each = [spread([value(c.record.miou) for c in cells if c.axes.dataset == d]) for d in datasets]
        line = [init, *map(mean_sd, each), mean_sd(average(cells, datasets))]
        if theirs:
            line.append(f"{theirs[init]:.1f}" if init in theirs else "-")
        body.append(tuple(line))
    head = ("init", *datasets, "mean of data sets", *["published"] * bool(theirs))
    note = f"Published: {suite.published.source}." if theirs and suite.published is not None else ""
    return ReportTable(f"mIoU over data sets: {protocol}, labels {budget_text(label_budget)}", head, tuple(body), note)


def average(cells: list[DoneCell], datasets: Sequence[str]) -> Spread:
    """Return the mean over data sets, with its spread over the seeds that have all of them."""
    by_seed: dict[int, dict[str, float]] = {}
    for cell in cells:
        by_seed.setdefault(cell.axes.seed, {})[cell.axes.dataset] = value(cell.record.miou)
    whole = [float(np.mean([found[d] for d in datasets])) for found in by_seed.values() if set(datasets) <= set(found)]
    return spread(whole)


def by_budget(cells: Iterable[DoneCell]) -> dict[Budget, list[DoneCell]]:
    """Group cells by protocol and label budget."""
    return _grouped(cells, lambda axes: (axes.protocol, axes.label_budget))


def by_init(cells: Iterable[DoneCell]) -> dict[str, list[DoneCell]]:
    """Group cells by their init."""
    return _grouped(cells, lambda axes: axes.init)


def _grouped(cells: Iterable[DoneCell], key: Callable[[Axes], Key]) -> dict[Key, list[DoneCell]]:
    found: dict[Key, list[DoneCell]] = {}
    for cell in cells:
        found.setdefault(key(cell.axes), []).append(cell)
    return found


def value(stored: float | None) -> float:
    """Return a stored score, NaN where it has no value."""
    return math.nan if stored is None else stored


def number(share: float | None, *, sign: bool = False) -> str:
    """Return a share as percent with one decimal, a dash for none."""
    if share is None or math.isnan(share):
        return "-"
    return f"{100 * share:{'+' if sign else ''}.1f}".replace("-", "−")


def mean_sd(found: Spread) -> str:
    """Return mean ± sd in percent; one value has no sd."""
    return number(found.mean) + ("" if math.isnan(found.sd) else f" ± {number(found.sd)}")


def limits(interval: Interval) -> str:
    """Return the limits of an interval in percent."""
    none = math.isnan(interval.low) or math.isnan(interval.high)
    return "-" if none else f"{number(interval.low, sign=True)} to {number(interval.high, sign=True)}"


def costs(cost: Cost | None) -> list[str]:
    """Return GFLOPs, millions of parameters and images/s."""
    if cost is None:
        return ["", "", ""]
    speed = cost.images_per_second
    return [f"{cost.flops / 1e9:.3g}", f"{cost.parameters / 1e6:.3g}", f"{speed:.{0 if speed >= 10 else 2}f}"]
