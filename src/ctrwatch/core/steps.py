"""
Whom to ask about a container, and in what order. Data: a new source is a row of `STEPS`.

Pure. core/questions.py walks the table; evidence/ has the sources themselves.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from ctrwatch.model import Runtime

__all__ = ("INIT", "LEADS_ONLY", "MORE", "STEPS", "WANTED", "Step")

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
# More of an image that is known, and of what: asked for, but no event waits long for it.
MORE: Final = {"image.id": "container_image", "image.digest_kind": "container_image_digest"}
_IMAGE: Final = frozenset(MORE)


class Step(NamedTuple):
    """
    A source, what it can tell, and the runtimes it can tell it of (empty: of any).

    A runtime that is not known yet may be any of them, unless it is `named`.
    """

    source: str
    tells: frozenset[str]
    runtimes: frozenset[Runtime] = frozenset()
    needs: str = ""  # the lead without which it can't be asked
    named: bool = False  # the path, or who made it, says the runtime from the start

    def concerns(self, runtime: Runtime) -> bool:
        if runtime is Runtime.UNKNOWN:
            return not self.named
        return not self.runtimes or runtime in self.runtimes


# Most direct first. A source is asked when the ones above it have answered.
STEPS: Final = (
    Step("lxc", WANTED, frozenset({Runtime.LXC}), named=True),
    Step("nspawn", WANTED, frozenset({Runtime.NSPAWN}), named=True),
    Step("creator", WANTED),
    Step("bundle", WANTED, needs="bundle"),
    Step("docker.files", _RECORD | {"image.id"}, frozenset({Runtime.DOCKER})),
    Step("podman.files", _RECORD | _IMAGE, frozenset({Runtime.PODMAN})),
    Step("containerd", _RECORD | _IMAGE, frozenset({Runtime.CONTAINERD})),
    # dockerd 20.10 and later keeps the manifests that it pulled there.
    Step("containerd", frozenset({"image.digest_kind"}), frozenset({Runtime.DOCKER}), "digests"),
    Step("cri", _RECORD, frozenset({Runtime.CRIO})),
    Step("docker", _RECORD, frozenset({Runtime.DOCKER})),
)
INIT: Final = Step("init", frozenset({"init.pid"}))
LEADS_ONLY: Final = frozenset({"creator", "init"})  # they point to evidence, they are none
