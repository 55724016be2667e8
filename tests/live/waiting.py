"""Waiting for what nobody announces."""

import time
from collections.abc import Callable


def until(what: str, holds: Callable[[], bool], deadline_s: float = 10) -> None:
    """Looks again and again; raises `TimeoutError` with `what` did not come to hold."""
    deadline = time.monotonic() + deadline_s
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {deadline_s} s: {what}")
        time.sleep(0.005)
