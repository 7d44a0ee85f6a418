"""`unip data check`: decode every file once and report what would harm a training set."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from unip.data.checking_page import Checked, render_check_page
from unip.data.config import CheckConfig
from unip.data.findings import FINDING_KINDS, Finding, Limits, SourceCount, find_problems, in_order
from unip.data.images.files import describe_skipped, find_skipped
from unip.data.label_findings import find_label_problems, summarise
from unip.data.labelled_sets import LabelledSet, UnreadLabels, find_labels, listing_of, open_data
from unip.data.looking import Looker
from unip.data.manifests.rows import Row
from unip.data.manifests.scan import JOURNAL, read_images
from unip.data.manifests.sources import is_manifest, printable, split_source
from unip.log import TableMessage
from unip.outputs import OutputFolder, write_json, write_text
from unip.paths import is_dir
from unip.runtime.signals import stoppable

log = logging.getLogger(__name__)

SHOWN = 3  # findings of a kind that are printed


@dataclass(frozen=True)
class CheckResult:
    """What was found.

    Attributes:
        report: Where check.json is, or would be after a dry run.
        images: Files that were looked at.
        findings: Worst first within each kind.
        hints: What may be wrong with a source as a whole, in sentences.
    """

    report: Path
    images: int
    findings: tuple[Finding, ...]
    hints: tuple[str, ...]


def check_images(config: CheckConfig, outputs: OutputFolder) -> CheckResult:
    """Do what is left of :func:`unip.data.verbs.check` once the sources are known to be there."""
    sets, unread = find_labels(config.sources, config.remap)
    named = open_data(config) if config.data is not None else []
    with stoppable("Run the same command again to continue."):
        found = _look(config, None if config.dry_run else outputs.hidden / JOURNAL, sets, named, unread)
        result = CheckResult(config.out / "check.json", found.images, tuple(found.findings), tuple(found.hints))
        if not config.dry_run:
            write_json(result.report, _record(config, found))
            write_text(config.out / "check.html", render_check_page(found, config.worst))
    _print(found)
    log.info(f"{'dry run, not written:' if config.dry_run else 'written:'} {result.report} and check.html")
    return result


def _look(
    config: CheckConfig,
    journal: Path | None,
    sets: list[LabelledSet],
    named: list[LabelledSet],
    unread: Sequence[UnreadLabels],
) -> Checked:
    """Read all files and find out what is wrong with them."""
    known = {path for each in named for path in each.images}
    sets = [*named, *(each for each in sets if known.isdisjoint(each.images))]
    looker = Looker(sets, journal, config.workers)
    rows, note_lines = read_images(config.sources, also=[listing_of(named)] if named else [], read=looker)
    read = [row for row in rows if row.facts]
    findings, hints = find_problems(read, Limits(config.min_side, config.min_contrast, config.max_saturated))
    facts = {row.facts.path: row.facts for row in read if row.facts}
    findings = in_order([*findings, *find_label_problems(sets, unread, looker.seen.masks, facts)])
    places = [place for _, place in map(split_source, config.sources) if not is_manifest(place) and is_dir(place)]
    skipped = {str(place): names for place in places if (names := find_skipped(place))}
    return Checked(
        sources=(*config.sources, *([str(config.data)] if config.data else ())),
        images=len(read),
        bad=len({finding.path for finding in findings} & set(facts)),
        table=_count(read, findings),
        findings=findings,
        hints=[*note_lines, *hints],
        skipped=[_skipped(place, names) for place, names in skipped.items()],
        sets=sets,
        summaries=[summarise(each, looker.seen.masks) for each in sets],
        seen=looker.seen,
    )


def _skipped(place: str, names: Sequence[str]) -> str:
    more = ", ..." if len(names) > SHOWN else ""
    return printable(f"{place}: {describe_skipped(names)}; such as {', '.join(names[:SHOWN])}{more}")


def _count(read: Sequence[Row], findings: Sequence[Finding]) -> list[SourceCount]:
    """Count images and findings of each kind by source."""
    images = Counter(row.source for row in read)
    kinds: dict[str, Counter[str]] = {source: Counter() for source in images}
    for finding in findings:
        kinds.setdefault(finding.source, Counter())[finding.kind] += finding.count
    return [SourceCount(source, images[source], dict(kinds[source])) for source in sorted(kinds)]


def _record(config: CheckConfig, found: Checked) -> dict[str, Any]:
    settings = {"sources", "data", "splits", "remap", "min_side", "min_contrast", "max_saturated"}
    counts = Counter(finding.kind for finding in found.findings)
    return {
        "settings": config.model_dump(mode="json", include=settings),
        "images": found.images,
        "sources": [asdict(count) for count in found.table],
        "hints": list(found.hints),
        "skipped": list(found.skipped),
        "labels": [
            asdict(summary) | {"misfits": [printable(path) for path in summary.misfits]} for summary in found.summaries
        ],
        "kinds": {name: asdict(kind) for name, kind in FINDING_KINDS.items() if name in counts},
        "findings": [
            asdict(finding)
            | {"path": printable(finding.path), "frames": [printable(frame) for frame in finding.frames]}
            for finding in found.findings
        ],
    }


def _print(found: Checked) -> None:
    shown = Table("source", title="Checked")
    shown.add_column("images", justify="right")
    shown.add_column("found")
    for count in found.table:
        kinds = [f"{count.kinds[kind]:,} {kind}" for kind in FINDING_KINDS if kind in count.kinds]
        shown.add_row(count.source, f"{count.images:,}", ", ".join(kinds))
    log.info(TableMessage(shown))
    for name, kind in FINDING_KINDS.items():
        members = [finding for finding in found.findings if finding.kind == name]
        if not members:
            continue
        log.info(f"{kind.severity}: {name}: {kind.meaning}. {kind.fix}")
        for finding in members[:SHOWN]:
            log.info(f"  {printable(finding.path)}: {finding.detail}")
        if len(members) > SHOWN:
            log.info(f"  and {len(members) - SHOWN:,} more, see check.json")
    for hint in found.hints:
        log.info(f"hint: {hint}")
    if not found.findings:
        log.info("Nothing was found.")
