from __future__ import annotations

from pathlib import Path

import pytest

from unip.output_folder import OutputFolder
from unip.training.run_folder import RunFolder


@pytest.mark.parametrize(
    "line",
    [
        '{"step": 1, "lo',
        '{"loss": 0.5}',
        '{"step": 0.5, "loss": 0.5}',
        '{"step": -1, "loss": 0.5}',
        '{"step": 2147483648, "loss": 0.5}',
        '{"step": 9007199254740993, "loss": 0.5}',  # no float holds it: it would come back as another number
        '{"step": 1e300, "loss": 0.5}',
        '{"step": "1", "loss": 0.5}',
        '{"step": 1, "loss": NaN}',
        '{"step": 1, "loss": true}',
        "[1]",
    ],
)
def test_lines_of_the_log_that_no_run_wrote_are_left_out(tmp_path: Path, line: str) -> None:
    good = '{"step": 0, "loss": 1.0}'
    (tmp_path / "log.jsonl").write_text(f"{good}\n{line}\n")
    assert RunFolder(OutputFolder(tmp_path)).read_log() == [{"step": 0, "loss": 1.0}]
