"""
Go every way on this host, and write what became of it.

    python -m tests.matrix                              both kinds that any host can be; docs/support.md
    python -m tests.matrix --column v2 --results FILE   one kind, into a file
    python -m tests.matrix --column hybrid --only buildah --results /dev/stdout
"""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.live.bed import Bed
from tests.live.daemons import BedError, command
from tests.live.watching import Watching
from tests.matrix.pure import in_pure_v2
from tests.matrix.table import COLUMNS, RESULTS, Column, cell, write, write_page
from tests.matrix.watch import Outcome, go
from tests.matrix.ways import WAYS

HERE = ("hybrid", "v2")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description=__doc__)
    parser.add_argument("--column", choices=COLUMNS, help="what kind of host this is")
    parser.add_argument("--results", type=Path, help="where its outcomes go, as JSON")
    parser.add_argument("--only", default="", help="the ways that have this in their name")
    chosen = parser.parse_args()
    if chosen.column:
        column = run(chosen.only)
        if chosen.results:
            write(chosen.results, column)
        return 0
    for name in HERE:
        words = [sys.executable, "-m", "tests.matrix", "--column", name]
        words += ["--results", str(RESULTS / f"{name}.json")]
        subprocess.run(in_pure_v2(words) if name == "v2" else words, check=True)
    write_page()
    return 0


def run(only: str) -> Column:
    ways = [way for way in WAYS if only in way.name]
    outcomes: dict[str, Outcome] = {}
    with Bed() as bed, Watching() as watching:
        for way, outcome in go(ways, bed, watching):
            outcomes[way.name] = outcome
            print(f"{way.name}: {cell(outcome)}", file=sys.stderr, flush=True)
            for path in outcome.besides[:9]:
                print(f"    besides: {path}", file=sys.stderr)
    return Column(host=", ".join(host()), ways=outcomes)


def host() -> Iterator[str]:
    yield f"Linux {platform.release()}"
    for program in ("dockerd", "containerd", "podman", "runc", "crun", "buildah"):
        try:
            yield command(program, "--version").splitlines()[0].split(",")[0]
        except BedError:
            continue


if __name__ == "__main__":
    sys.exit(main())
