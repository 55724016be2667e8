"""
What leaves by a webhook or goes to a command: a violation, and the container that it is of. Pure.

The violation's id is stable, so who gets it twice (a receiver that took it and then did not
answer) can drop the second. The container's labels, limits and program are left out: arguments
and labels hold what is not meant for a chat, and who needs them has the event's id.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from ctrwatch.core.text import clean
from ctrwatch.event import Cgroup, ContainerEvent, Creator, Image, Status, Violation
from ctrwatch.model import Runtime, Security

__all__ = (
    "FORMATS",
    "Alert",
    "Answer",
    "Container",
    "Format",
    "alert",
    "answered",
    "body",
    "signature",
)

Format = Literal["json", "slack"]
FORMATS: Final[tuple[Format, ...]] = ("json", "slack")
Answer = Literal["taken", "later", "never"]

# Answers that are about this one message, and will not change: RFC 9110, 15.5.
_NEVER: Final = frozenset({400, 413, 415, 422})
_TEXT: Final = 500  # characters of a message in a chat
_NAME: Final = 200


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """Of the judged event, what tells which container it is and what it may do."""

    event: str
    id: str
    time: str
    host: str
    runtime: Runtime
    container_id: str
    ctime: int | None = None
    container_image: str = ""
    container_image_digest: str = ""
    container_name: str = ""
    pod_name: str = ""
    pod_namespace: str = ""
    pod_uid: str = ""
    cgroup: Cgroup = Cgroup()
    creator: Creator = Creator()
    image: Image = Image()
    outer: tuple[str, ...] = ()
    security: Security | None = None
    evidence_status: Status = "unverified"


class Alert(msgspec.Struct, frozen=True, kw_only=True):
    """One JSON object."""

    violation: Violation
    container: Container
    dropped_before: Annotated[
        int, Meta(description="violations that found no room in the queue before this one")
    ] = 0


_COPIED: Final = frozenset(Container.__struct_fields__) - {"evidence_status"}


def alert(violation: Violation, event: ContainerEvent) -> Alert:
    copied = {name: getattr(event, name) for name in _COPIED}
    container = Container(**copied, evidence_status=event.evidence.status)
    return Alert(violation=violation, container=container)


def body(said: Alert, format_: Format) -> bytes:
    return msgspec.json.encode(said if format_ == "json" else {"text": _chat(said)})


def signature(secret: bytes, timestamp: int, content: bytes) -> str:
    """
    HMAC-SHA256 over the time of sending and the body: who checks both can't be sent an old one.

    >>> signature(b"secret", 1700000000, b"{}")[:27]
    'sha256=b8569b78799ff9e3cbff'
    """
    signed = b"%d." % timestamp + content
    return "sha256=" + hmac.new(secret, signed, hashlib.sha256).hexdigest()


def answered(status: int, headers: Mapping[bytes, bytes]) -> tuple[Answer, str]:
    """What an answer means for the message, and what is to be said of it."""
    if 200 <= status < 300:
        return "taken", ""
    if 300 <= status < 400:
        where = clean(headers.get(b"location", b"").decode("latin-1"), _NAME)
        return "later", f"answers {status}, a redirect to {where or 'nowhere'}; it is not followed"
    return ("never" if status in _NEVER else "later"), f"answers {status}"


def _chat(said: Alert) -> str:
    """
    Slack's mrkdwn, which Mattermost and others read too. See api.slack.com, "Escaping text".

    What strangers chose is in one line, and can neither mention anybody nor make a link.
    """
    violation, one = said.violation, said.container
    head = f"*{violation.severity}*: {_safe(violation.policy)}/{_safe(violation.rule)}"
    if violation.verdict != "violation":
        head += f" ({violation.verdict})"
    lines = [head, _safe(violation.message, _TEXT)]
    pod = f"{one.pod_namespace}/{one.pod_name}" if one.pod_name else ""
    about = {
        "container": one.container_name or one.container_id[:12],
        "image": one.container_image,
        "pod": pod,
        "runtime": f"{one.runtime.value} on {one.host}",
        "action": "" if violation.action == "log" else violation.action,
        "id": violation.id,
    }
    lines += [f"{name}: {_safe(value)}" for name, value in about.items() if value]
    if said.dropped_before:
        lines.append(f"{said.dropped_before} violations before this one were dropped")
    return "\n".join(lines)


def _safe(text: str, limit: int = _NAME) -> str:
    """
    >>> _safe("<!channel> *a*")
    '&lt;!channel&gt; \u2217a\u2217'
    """
    text = clean(text, limit).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return text.translate(_MARKS)


# Slack has no escape for its marks; these look the same.
_MARKS: Final = str.maketrans({"*": "\u2217", "_": "\uff3f", "~": "\u223c", "`": "\u02cb"})
