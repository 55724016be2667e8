"""The options of `ctrwatch history` as a question to the store."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from typing import Final

from ctrwatch.core import reference
from ctrwatch.core.moments import moment
from ctrwatch.errors import InputError
from ctrwatch.outputs.history import Asked

__all__ = ("asked",)

_HEX: Final = re.compile(r"[0-9a-f]{1,64}")
_WILD: Final = frozenset("*?[")


def asked(
    *,
    image: str | None = None,
    digest: str | None = None,
    runtime: str | None = None,
    pod: str | None = None,
    namespace: str | None = None,
    name: str | None = None,
    id_: str | None = None,
    events_: Sequence[str] = (),
    violations: bool = False,
    severities: Sequence[str] = (),
    since: str | None = None,
    until: str | None = None,
    limit: int | None = None,
) -> Asked:
    """Raises InputError."""
    now_ns = time.time_ns()
    return Asked(
        since_ns=moment("--since", since, now_ns) if since else None,
        until_ns=moment("--until", until, now_ns) if until else None,
        events=(*events_, *(("violation",) if violations else ())),
        severities=severities,
        image=_image(image) if image else None,
        digest=_digest(digest) if digest else None,
        runtime=runtime,
        pod=pod,
        namespace=namespace,
        name=name,
        id=id_,
        limit=limit,
    )


def _image(given: str) -> str:
    """
    As users name images; a name without a tag is of any.

    >>> _image("nginx"), _image("nginx:1.27"), _image("*nginx*")
    ('docker.io/library/nginx[:@]*', 'docker.io/library/nginx:1.27', '*nginx*')
    """
    named = None if _WILD & set(given) else reference.parse(given)
    if named is None:
        return given
    return str(named) if named.tag or named.digest else f"{named}[:@]*"


def _digest(given: str) -> str:
    """
    >>> _digest("sha256:ab"), _digest("AB")
    ('sha256:ab*', 'sha256:ab*')
    """
    digits = given.lower().removeprefix("sha256:")
    if not _HEX.fullmatch(digits):
        raise InputError(f"--digest {given[:80]}: give sha256:… or its beginning")
    whole = f"sha256:{digits}"
    return whole if len(digits) == 64 else whole + "*"
