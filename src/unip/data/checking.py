"""`unip data check`: decode every file once and report what would harm a training set."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.table import Table

from unip.data.checking_page import render_check_page
from unip.data.config import CheckConfig
from unip.data.findings import FINDING_KINDS, Finding, Limits, SourceCount, find_problems
from unip.data.manifests.rows import Row
from unip.data.manifests.scan import JOURNAL, read_images
from unip.data.manifests.sources import printable
from unip.log import TableMessage
from unip.outputs import OutputFolder, write_json, write_text
from unip.runtime.signals import stoppable

log = logging.getLogger(__name__)

SHOWN = 8


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
    limits = Limits(config.min_side, config.min_contrast, config.max_saturated)
    with stoppable("Run the same command again to continue."):
        journal = None if config.dry_run else outputs.hidden / JOURNAL
        rows, note_lines = read_images(config.sources, journal, workers=config.workers)
        read = [row for row in rows if row.facts]
        findings, hints = find_problems(read, limits)
        hints = note_lines + hints
        report = config.out / "check.json"
        result = CheckResult(report, len(read), tuple(findings), tuple(hints))
        table = _count(read, findings)
        if not config.dry_run:
            write_json(report, _record(config, result, table))
            page = render_check_page(config.sources, len(read), table, findings, hints, config.worst)
            write_text(config.out / "check.html", page)
    _print(result, table, config.dry_run)
    return result


def _count(read: Sequence[Row], findings: Sequence[Finding]) -> list[SourceCount]:
    """Count images and findings of each kind by source."""
    images = Counter(row.source for row in read)
    kinds = {source: Counter(finding.kind for finding in findings if finding.source == source) for source in images}
    return [SourceCount(source, images[source], dict(kinds[source])) for source in sorted(images)]


def _record(config: CheckConfig, result: CheckResult, table: Sequence[SourceCount]) -> dict[str, Any]:
    findings = [asdict(finding) | {"path": printable(finding.path)} for finding in result.findings]
    return {
        "settings": config.model_dump(mode="json", include={"sources", "min_side", "min_contrast", "max_saturated"}),
        "images": result.images,
        "sources": [asdict(count) for count in table],
        "hints": list(result.hints),
        "findings": findings,
    }


def _print(result: CheckResult, table: Sequence[SourceCount], dry_run: bool) -> None:
    shown = Table("source", title="Checked")
    shown.add_column("images", justify="right")
    shown.add_column("found")
    for count in table:
        found = [f"{count.kinds[kind]:,} {kind}" for kind in FINDING_KINDS if kind in count.kinds]
        shown.add_row(count.source, f"{count.images:,}", ", ".join(found))
    log.info(TableMessage(shown))
    for finding in result.findings[:SHOWN]:
        log.info(f"{finding.kind}: {printable(finding.path)}, {finding.detail}")
    if len(result.findings) > SHOWN:
        log.info(f"and {len(result.findings) - SHOWN} more, see check.json")
    for hint in result.hints:
        log.info(f"hint: {hint}")
    if not result.findings:
        log.info("Nothing was found.")
    log.info(f"{'dry run, not written:' if dry_run else 'written:'} {result.report} and check.html")
