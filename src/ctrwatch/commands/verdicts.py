"""What is judged, and what is shown. Loads CEL: only where somebody asks for it."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from ctrwatch.app import Heard, Listener
from ctrwatch.commands.asked import SEVERITIES, Asked
from ctrwatch.core.cel import CelError, Condition, Environment, Facts, Failed
from ctrwatch.core.chain import Report
from ctrwatch.core.holding import Holding
from ctrwatch.core.ids import birth_of
from ctrwatch.core.judge import Breach, Judge
from ctrwatch.core.ledger import Reading
from ctrwatch.core.policy import Policy
from ctrwatch.core.story import Tell
from ctrwatch.errors import InputError
from ctrwatch.event import ContainerEvent, ContainerUsage, Enforcement, Violation
from ctrwatch.judging import Judging
from ctrwatch.model import RawEvent
from ctrwatch.policies import load

__all__ = ("Verdicts", "Where", "on_use", "say_unjudged")

_PATIENCE_S: Final = 2.0  # what a rule lacks may come as late as --wait's default
_NAMED: Final = 8  # rules in a sentence
_ENDED: Final = 1_000  # that were shown or not: a rule that waits is told right after the end


class Where:
    """An expression of the command line, over events."""

    def __init__(self, text: str) -> None:
        """Raises InputError."""
        try:
            self._condition: Condition = Environment().condition(text)
        except CelError as error:
            raise InputError(f"--where: {error}") from None
        self._failed = False

    def holds(self, event: ContainerEvent) -> bool:
        """Where it can't be told it does not; that an expression fails is said once."""
        answer = self._condition.holds(Facts(event))
        if isinstance(answer, Failed) and not self._failed:
            self._failed = True
            sys.stderr.write(f"ctrwatch: --where fails on some events: {answer.why}\n")
        return answer is True


class Verdicts:
    """What the command line asks of policies: the judge, what is shown, and the exit code."""

    def __init__(self, asked: Asked, wait_s: float = 0) -> None:
        """Raises InputError where a policy or an expression can't be used."""
        if not asked.policies and (asked.only_violations or asked.fail_on):
            raise InputError("without --policy there are no violations: give one")
        self.sources = asked.policies
        self._only, self._fail_on = asked.only_violations, asked.fail_on
        self._where = Where(asked.where) if asked.where is not None else None
        patience_ns = int(max(wait_s, _PATIENCE_S) * 1e9)
        policies = load(asked.policies)
        self.judge = Judge(policies, patience_ns) if asked.policies else None
        self.on_use = on_use(policies)  # names of rules
        # Also without such rules: a reload may bring some.
        self.holding: Holding | None = Holding(policies) if asked.policies else None
        self._blind = False  # nobody looks at what containers use
        self._shown: dict[str, bool] = {}  # by birth; of the living, and of the last that ended
        self._ended: deque[str] = deque()
        self.failed = False

    def judging(
        self, listener: Listener, act: Callable[[Breach], None] | None = None
    ) -> Judging | None:
        """*listener*, which hears verdicts too; None where nothing is judged. See `Judging`."""
        if self.judge is None:
            return None
        return Judging(self.judge, listener, act, self.holding)

    def without_use(self, *, refuse: bool) -> None:
        """
        Nobody looks at what containers use: rules on that are not judged, which is said.

        *refuse*: raises InputError for them instead, now and whenever the policies are read again.
        """
        if refuse and self.on_use:
            raise _unlooked(self.on_use)
        self._blind = True
        self.holding = None
        say_unjudged(self.on_use)

    def read_again(self) -> Callable[[], int]:
        """
        What puts the policies in force that the files have now, and says how many rules.

        Raises InputError.
        """
        policies = load(self.sources)
        if self._blind and (names := on_use(policies)):
            raise _unlooked(names)

        def swap() -> int:
            if self.judge is not None:
                self.judge.swap(policies)
            if self.holding is not None:
                self.holding.swap(policies)
            return sum(len(policy.rules) for policy in policies)

        return swap

    def showing(self, render: Callable[[Heard], bytes | None]) -> Callable[[Heard], bytes | None]:
        """*render* for what is to be shown; None for the rest."""
        if self._where is None and not self._only and self._fail_on is None:
            return render
        return lambda heard: render(heard) if self._wanted(heard) else None

    def of(self, events: Sequence[ContainerEvent]) -> tuple[list[ContainerEvent], list[Violation]]:
        """Of these events those that are to be shown, and the verdicts on them."""
        shown = [event for event in events if self._where is None or self._where.holds(event)]
        violations: list[Violation] = []
        if self.judge is not None:
            breaches = [breach for event in shown for breach in self.judge.heard(event, 0)]
            breaches += self.judge.finish()
            violations = [breach.violation for breach in breaches]
        self.failed = any(map(self._fails, violations))
        return [] if self._only else shown, violations

    def _wanted(self, heard: Heard) -> bool:
        match heard:
            case Tell(event):
                shown = self._where is None or self._remembered(event, self._where)
                return shown and not self._only
            case Report(Violation() as violation):
                shown = self._shown.get(birth_of(violation.event_id), True)
                self.failed |= shown and self._fails(violation)
                return shown
            case Report(ContainerUsage() as used):
                return self._shown.get(birth_of(used.id), True) and not self._only
            case Report(Enforcement()):
                return True
            case Report() | RawEvent() | Reading():
                return not self._only

    def _remembered(self, event: ContainerEvent, where: Where) -> bool:
        """A verdict, and what it uses, is shown if what was told last of the container was."""
        birth = birth_of(event.id)
        shown = self._shown[birth] = where.holds(event)
        if event.event == "container_remove":
            self._ended.append(birth)
            if len(self._ended) > _ENDED:
                self._shown.pop(self._ended.popleft(), None)
        return shown

    def _fails(self, violation: Violation) -> bool:
        if self._fail_on is None:
            return False
        return SEVERITIES.index(violation.severity) >= SEVERITIES.index(self._fail_on)


def on_use(policies: Sequence[Policy]) -> list[str]:
    """The rules that judge what a container uses, by name."""
    return [
        f"{policy.name}/{rule.name}"
        for policy in policies
        for rule in policy.rules
        if rule.hold_ns is not None
    ]


def say_unjudged(names: Sequence[str]) -> None:
    """On standard error, where rules on use are left out."""
    if names:
        sys.stderr.write(
            f"ctrwatch: not judged here, for nobody looks at what containers use: {_listed(names)}\n"
        )


def _unlooked(names: Sequence[str]) -> InputError:
    return InputError(
        f"--policy: {_listed(names)}: judges what containers use: give --usage, too"
        " (or `usage = true` in the file of --config)"
    )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
