"""
Whom to ask about a container, and in what order. Data: a new source is a row of `STEPS`.

Pure. core/story.py walks the table; evidence/ has the sources themselves.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ctrwatch.model import Runtime

__all__ = ("INIT", "LEADS_ONLY", "STEPS", "WANTED", "Step")

_SPEC: Final = frozenset({"security", "limits", "process"})
_RECORD: Final = frozenset(
    {
        "runtime",
        "container_image",
        "container_image_digest",
        "container_name",
        "pod_name",
        "pod_namespace",
        "pod_uid",
        "pod_sandbox",
        "labels",
    }
)
WANTED: Final = _SPEC | _RECORD  # a complete event has these, or a final reason for each


class Step(NamedTuple):
    """A source, what it can tell, and the runtimes it can tell it of (empty: of any)."""

    source: str
    tells: frozenset[str]
    runtimes: frozenset[Runtime] = frozenset()
    needs: str = ""  # the lead without which it can't be asked


# Most direct first. A source is asked when the ones above it have answered.
STEPS: Final = (
    Step("creator", WANTED),
    Step("bundle", WANTED, needs="bundle"),
    Step("docker.files", _RECORD, frozenset({Runtime.DOCKER})),
    Step("podman.files", _RECORD, frozenset({Runtime.PODMAN})),
    Step("containerd", _RECORD, frozenset({Runtime.CONTAINERD})),
    Step("docker", _RECORD, frozenset({Runtime.DOCKER})),
)
INIT: Final = Step("init", frozenset({"init.pid"}))
LEADS_ONLY: Final = frozenset({"creator", "init"})  # they point to evidence, they are none
