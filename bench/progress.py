"""What is being done, on standard error."""

from __future__ import annotations

import sys
import time

_BEGUN_S = time.monotonic()


def say(text: str) -> None:
    print(f"{time.monotonic() - _BEGUN_S:6.1f} s  {text}", file=sys.stderr, flush=True)
