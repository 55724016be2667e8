"""
The figures of docs/performance.md, one module each.

    make bench                             all, printed and written to docs/performance.md
    python -m bench --quick                all, of fewer things, printed only
    python -m bench loss latency           these, printed only

Run it as root, on a machine that does nothing else; progress is on standard error. Beside ctrwatch's
figures stand those of bench/floor.c, a bare C program on the same BPF object, in the same run.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from bench import births, cost, enforce, history, host, latency, loss, memory, policy, start, usage
from bench.page import FULL, QUICK, Scale, Section, page, replaced, section
from bench.progress import say
from bench.soak.page import TITLE

PAGE: Final = Path(__file__).parents[1] / "docs/performance.md"


FIGURES: Final[dict[str, Callable[[Scale], Section]]] = {
    "loss": loss.measure,
    "latency": latency.measure,
    "cost": cost.measure,
    "host": host.measure,
    "memory": memory.measure,
    "start": start.measure,
    "births": births.measure,
    "policy": policy.measure,
    "history": history.measure,
    "enforce": enforce.measure,
    "usage": usage.measure,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("figures", nargs="*", metavar="FIGURE", help=", ".join(FIGURES))
    parser.add_argument("--quick", action="store_true", help="fewer of everything")
    asked = parser.parse_args()
    if unknown := set(asked.figures) - set(FIGURES):
        parser.error(f"no such figure: {', '.join(sorted(unknown))}")
    if os.geteuid() != 0:
        sys.exit("bench: only root may load a BPF program and start containers")
    scale = QUICK if asked.quick else FULL
    sections = [FIGURES[name](scale) for name in asked.figures or FIGURES]
    say("done")
    text = page(sections)
    print(text)
    if not asked.figures and not asked.quick:
        soak = section(PAGE.read_text(), TITLE)  # which bench/soak measured, on another day
        PAGE.write_text(replaced(text, TITLE, soak))


if __name__ == "__main__":
    main()
