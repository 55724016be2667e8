"""`ctrwatch policy replay` and `learn`: policies over the history."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from ctrwatch.commands.asked import FAILED, SEVERITIES
from ctrwatch.commands.verdicts import on_use, say_unjudged
from ctrwatch.core.approved import Approved
from ctrwatch.core.ids import birth_of
from ctrwatch.core.judge import BIRTHS, NEVER_NS, Breach, Judge
from ctrwatch.core.moments import moment
from ctrwatch.core.policy import Policy, parse
from ctrwatch.core.render import host_json_line, host_text_line
from ctrwatch.core.rows import RowError
from ctrwatch.core.text import escaped
from ctrwatch.errors import InputError
from ctrwatch.event import ContainerEvent, Severity
from ctrwatch.outputs.history import Asked, History
from ctrwatch.policies import load

__all__ = ("learn", "replay")

_TOLD: Final = ("container_create", "existing_container", "container_update", "container_remove")
_REMEMBERED: Final = 100_000  # births and verdicts, 100 bytes each: told again after a restart


class _Once:
    """Whether something comes for the first time, as far as it is remembered."""

    def __init__(self) -> None:
        self._known: OrderedDict[str, None] = OrderedDict()

    def first(self, key: str) -> bool:
        new = key not in self._known
        self._known[key] = None
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return new


class _Past:
    """The history's births, judged again, each by what became known of it in the end."""

    def __init__(self, store: Path, policies: Sequence[Policy], since: str | None) -> None:
        since_ns = moment("--since", since, time.time_ns()) if since else None
        self._store, self._asked = store, Asked(since_ns=since_ns, events=_TOLD)
        self._judge = Judge(policies, NEVER_NS)
        self.births = self.unread = 0

    def breaches(self) -> Iterator[Breach]:
        """In the order of the births' time, so that `new_registry` is right. Raises InputError."""
        verdicts = _Once()
        for breach in self._all():
            if verdicts.first(breach.violation.id):
                yield breach

    def _all(self) -> Iterator[Breach]:
        births = _Once()
        with History(self._store) as history:
            for row in history.rows(self._asked):
                try:
                    event = row.event()
                except RowError:
                    self.unread += row.keys.event in BIRTHS
                    continue
                if isinstance(event, ContainerEvent):
                    if event.event in BIRTHS:
                        self.births += births.first(birth_of(event.id))
                    yield from self._judge.heard(event, 0)
        yield from self._judge.finish()

    def said_of_unread(self) -> str:
        if not self.unread:
            return ""
        return f"; {self.unread} more are of another version of ctrwatch and can't be read"


def replay(
    sources: Sequence[str],
    store: Path,
    *,
    since: str | None,
    as_json: bool,
    fail_on: Severity | None,
) -> int:
    """What the policies would have said; the exit code."""
    policies = load(sources)
    say_unjudged(on_use(policies))
    past = _Past(store, policies, since)
    verdicts: Counter[str] = Counter()
    worst = -1
    with contextlib.suppress(BrokenPipeError):
        for breach in past.breaches():
            violation = breach.violation
            verdicts[violation.verdict] += 1
            worst = max(worst, SEVERITIES.index(violation.severity))
            if as_json:
                shown = escaped if sys.stdout.isatty() else bytes
                sys.stdout.buffer.write(shown(host_json_line(violation)))
            else:
                day = violation.time[:10]  # a line of `events` has no date: it is today's
                sys.stdout.buffer.write(f"{day} {host_text_line(violation)}".encode())
        sys.stdout.buffer.flush()
    said = ", ".join(
        f"{number} {_PLURALS[verdict] if number > 1 else verdict}"
        for verdict, number in verdicts.items()
    )
    sys.stderr.write(
        f"ctrwatch: births judged: {past.births}; {said or 'no violation'}{past.said_of_unread()}\n"
    )
    return FAILED if fail_on is not None and worst >= SEVERITIES.index(fail_on) else 0


_PLURALS: Final = {"violation": "violations", "undecided": "undecided", "error": "errors"}


def learn(store: Path, output: Path | None, *, since: str | None) -> int:
    """Write a policy that approves what ran; 1 where there is nothing to learn from."""
    approved = Approved()
    # The policy itself, while nothing is approved: it breaks at each birth, as soon as it can tell.
    past = _Past(store, _policies(approved.yaml()), since)
    births = _Once()
    for breach in past.breaches():
        if births.first(birth_of(breach.event.id)):
            approved.add(breach.event)
    if not past.births:
        sys.stderr.write(f"ctrwatch: no births{past.said_of_unread()}: nothing to learn from\n")
        return 1
    text = approved.yaml()
    _policies(text)
    _write(text, output)
    left = f"; births left out: {approved.left_out}" if approved.left_out else ""
    where = f": {output}" if output is not None else ""
    sys.stderr.write(
        f"ctrwatch: births: {approved.births}; images: {len(approved)}{left}"
        f"{past.said_of_unread()}; review it{where}\n"
    )
    return 0


def _policies(text: str) -> list[Policy]:
    def no_list(_: str) -> bytes:
        raise OSError(0, "it has no lists")

    return parse(text.encode(), "what was learnt", no_list)


def _write(text: str, output: Path | None) -> None:
    """A file that is there is somebody's work: it stays."""
    if output is None:
        sys.stdout.buffer.write(text.encode())
        return
    try:
        with output.open("x", encoding="utf-8") as file:
            file.write(text)
    except FileExistsError:
        raise InputError(f"{output}: is there already; give another --output") from None
    except OSError as error:
        raise InputError(f"{output}: {error.strerror}") from None
