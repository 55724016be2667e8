"""
Fuzz the boundaries, and write what was run into docs/security.md.

    python -m tests.fuzz [BOUNDARY…] [--inputs 1000000] [--seconds N] [--seed S]

What is found is printed, kept under .build/fuzz/, and ends with exit code 1. A boundary whose
whole million was fed has its row in the table written anew.
"""

from __future__ import annotations

import argparse
import datetime as dt
import gc
import sys
from pathlib import Path
from typing import Final

from tests.fuzz.registry import BOUNDARIES
from tests.fuzz.runner import Finding, Run, run
from tests.fuzz.table import FULL, PAGE, rows, written

_FOUND: Final = Path(".build/fuzz")
_REPR: Final = 64 << 10  # of a case that is kept


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("boundary", nargs="*", choices=[[], *BOUNDARIES], metavar="BOUNDARY")
    parser.add_argument("--inputs", type=int, default=FULL, help="for each boundary")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="for each boundary")
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args()
    failed = False
    for name in asked.boundary or BOUNDARIES:
        boundary = BOUNDARIES[name].made()
        gc.collect()
        gc.freeze()  # what is there stays; without this the collector takes a part of the time
        done = run(boundary, inputs=asked.inputs, seconds=asked.seconds, seed=asked.seed)
        print(f"{name}: {_said(done)}", flush=True)
        for number, finding in enumerate(done.findings):
            failed = True
            _keep(f"{name}-{asked.seed}-{number}", finding)
        if done.inputs >= FULL and not done.findings:
            today = dt.datetime.now(dt.UTC).date()
            page = PAGE.read_text()
            PAGE.write_text(written(page, {**rows(page), name: (done, asked.seed, today)}))
    return int(failed)


def _said(done: Run) -> str:
    return (
        f"{done.inputs} inputs in {done.seconds:.0f} s, {done.outcomes} outcomes,"
        f" {done.lines} lines, slowest {done.slowest_ms:.0f} ms, {len(done.findings)} found"
    )


def _keep(name: str, finding: Finding) -> None:
    _FOUND.mkdir(parents=True, exist_ok=True)
    place = _FOUND / f"{name}.txt"
    place.write_text(f"{finding.details}\n{finding.case!r:.{_REPR}}\n", errors="backslashreplace")
    print(f"  {finding.what}\n  kept as {place}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
