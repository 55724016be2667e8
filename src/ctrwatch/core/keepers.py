"""
Whose container it is that LXC's monitor or systemd-nspawn keeps, by its command line. Pure.
"""

from __future__ import annotations

from ctrwatch.core.lxc import lxc_call
from ctrwatch.core.nspawn import nspawn_call
from ctrwatch.model import ContainerId, Runtime

__all__ = ("kept", "named_by")


def kept(argv: tuple[str, ...]) -> tuple[Runtime, str] | None:
    """
    Return the container's runtime and name, which is "" if it is not said; None for no keeper.

    >>> kept(("lxc-start", "-F", "-n", "web"))
    (<Runtime.LXC: 'lxc'>, 'web')
    """
    if (lxc := lxc_call(argv)) is not None:
        return Runtime.LXC, lxc.name
    if (nspawn := nspawn_call(argv)) is not None:
        return Runtime.NSPAWN, nspawn.name
    return None


def named_by(name: str, path: str) -> ContainerId:
    """
    Return the container's id: its name, or, where that is not said, its unit's.

    >>> named_by("", "/system.slice/web.service/payload")
    'web.service'
    """
    return ContainerId(name or path.removesuffix("/payload").rstrip("/").rpartition("/")[2])
