"""
Which looks at a container's use the history keeps, besides those that are told. Pure.

What is told ends with the ages of `--usage-at`, a minute by default, and the bill comes at the
end. Between them somebody may eat the machine for a week, and a watch that is killed leaves no
bill. So a look is kept when a container's age has doubled, and at least once a day: some twenty
rows in the life of one that lives for a week, and none of one that lives for two minutes.
"""

from __future__ import annotations

from typing import Final

from ctrwatch.core.ids import birth_of
from ctrwatch.core.ledger import Reading, use_event
from ctrwatch.event import ContainerEvent, ContainerUsage

__all__ = ("Keepsakes",)

_FIRST_S: Final = 120.0  # the first minute is told
_DAY_S: Final = 86_400.0


class Keepsakes:
    """Of all that live; one that was there before is kept at its first look."""

    def __init__(self) -> None:
        self._due_s: dict[str, float] = {}  # by birth: the age from which on the next look is kept

    def __len__(self) -> int:
        return len(self._due_s)

    def heard(self, event: ContainerEvent) -> None:
        if event.event == "container_remove":
            self._due_s.pop(birth_of(event.id), None)

    def of(self, reading: Reading, wall_offset_ns: int) -> ContainerUsage | None:
        """None: it need not be kept."""
        birth = birth_of(reading.container.id)
        # Of one whose birth nobody knows the age is the boot's: the same beat, from then on.
        age_s = reading.age_seconds if reading.age_seconds is not None else reading.boot_ns / 1e9
        if age_s < self._due_s.setdefault(birth, _FIRST_S):
            return None
        self._due_s[birth] = age_s + min(age_s, _DAY_S)
        return use_event(
            "container_usage",
            reading.container,
            f"usage-{age_s:.0f}",
            time_ns=reading.boot_ns + wall_offset_ns,
            age_s=reading.age_seconds,
            usage=reading.usage,
            rates=reading.rates,
        )
