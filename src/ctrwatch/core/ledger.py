"""
What each container has used so far, and what of it is to be told. Pure.

Looks (`Sampled`) go in as they are made, the last one after the container's first process has
ended; out come a `Reading` of each, the events of the ages that were asked for, one for OOM kills,
and, when it is removed, the bill of its whole life. A look that is late, or was never made, is said.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import msgspec

from ctrwatch.core.changes import Born
from ctrwatch.core.describe import rfc3339
from ctrwatch.core.ids import birth_of
from ctrwatch.core.usage import TOTALS, later, rates
from ctrwatch.event import Bill, ContainerEvent, ContainerUsage, Rates, Unread, Usage

__all__ = ("Exited", "Ledger", "Reading", "Sampled", "use_event")

_SECOND: Final = 1_000_000_000
# Between two events of one container's OOM kills: one that restarts its processes for ever is
# killed some hundred times a second.
_OOM_PAUSE_NS: Final = _SECOND
_RATES_NS: Final = _SECOND // 2  # rates over less are noise: the kernel counts CPU by its ticks
_FIGURES: Final = tuple(
    name for name in Bill.__struct_fields__ if name in set(Usage.__struct_fields__) - {"missing"}
)
_NEVER: Final = Usage(
    missing=dict.fromkeys([*_FIGURES, "memory_bytes", "pids", "pressure"], Unread.GONE)
)


class Sampled(msgspec.Struct, frozen=True, kw_only=True, tag="sampled", omit_defaults=True):
    """What a container used when it was looked at; `final`: its first process had ended."""

    boot_ns: int
    serial: int
    usage: Usage
    final: bool = False


class Exited(msgspec.Struct, frozen=True, kw_only=True, tag="exited", omit_defaults=True):
    """How a container's first process ended: a code, or the signal that ended it."""

    boot_ns: int
    serial: int
    code: int | None = None
    signal: int | None = None


class Reading(NamedTuple):
    """
    What a container used at a look, for whoever follows it: no line of its own is told.

    *rates* are since an earlier look, half a second ago or more; the first of a newborn are since
    its birth. None: there is nothing to compare with.
    """

    serial: int
    container: ContainerEvent  # as it was told last
    boot_ns: int
    age_seconds: float | None  # None: when it was born is not known
    usage: Usage
    rates: Rates | None
    final: bool  # its first process has ended


class _Due(NamedTuple):
    """An event to come: of an age, or (None) of kills."""

    age_ns: int | None
    kills: int
    at_ns: int
    usage: Usage


class _Account:
    __slots__ = (
        *("at_ns", "born_ns", "compared", "due", "exited", "final", "from_zero", "kills_told"),
        *("looked", "oom_ns", "stage", "told", "told_ns", "usage"),
    )

    def __init__(self, born_ns: int | None, *, from_zero: bool) -> None:
        self.born_ns, self.from_zero = born_ns, from_zero
        self.at_ns: int | None = None  # of the last look
        self.usage: Usage | None = None
        self.final = False
        self.exited: Exited | None = None
        self.stage = 0  # of the ages: the next one to tell
        self.told: Usage | None = None  # with the last event of an age
        self.told_ns: int | None = None
        self.kills_told: int | None = None
        self.oom_ns: int | None = None  # of the last event of kills
        # What a reading is compared with, and what later ones will be: usage, and when.
        self.compared: tuple[Usage | None, int] | None = None
        self.looked: tuple[Usage, int] | None = None
        self.due: list[_Due] = []

    def age_s(self, at_ns: int) -> float | None:
        """None: when it was born is not known, or the clock went back."""
        if self.born_ns is None or at_ns < self.born_ns:
            return None
        return (at_ns - self.born_ns) / _SECOND

    def since_last(self, usage: Usage, at_ns: int) -> Rates | None:
        """Looks that are close together are compared with the same one before them."""
        if self.looked is None:
            self.looked = (usage, at_ns)
            if self.from_zero and self.born_ns is not None:
                self.compared = (None, self.born_ns)
        elif at_ns - self.looked[1] >= _RATES_NS:
            self.compared, self.looked = self.looked, (usage, at_ns)
        if self.compared is None:
            return None
        before, since_ns = self.compared
        return rates(before, usage, (at_ns - since_ns) / _SECOND)


def use_event(
    name: Literal["container_usage", "container_oom"],
    told: ContainerEvent,
    suffix: str,
    *,
    time_ns: int,
    age_s: float | None,
    usage: Usage,
    rates: Rates | None,
    kills: int = 0,
) -> ContainerUsage:
    """Of the container of *told*; *time_ns* is the wall clock's, *suffix* tells it from its others."""
    return ContainerUsage(
        event=name,
        id=f"{birth_of(told.id)}-{suffix}",
        time=rfc3339(time_ns),
        host=told.host,
        runtime=told.runtime,
        container_id=told.container_id,
        container_name=told.container_name,
        container_image=told.container_image,
        pod_name=told.pod_name,
        pod_namespace=told.pod_namespace,
        age_seconds=None if age_s is None else round(age_s, 3),
        kills=kills,
        usage=usage,
        rates=rates,
    )


def _in_time(usage: Usage) -> bool:
    """The cgroup was still there."""
    return all(usage.missing.get(name) is not Unread.GONE for name in TOTALS)


class Ledger:
    """
    The accounts of living containers by serial, told at *ages_ns*.

    `due` makes the events that `note` found to be told; the container itself comes first.
    """

    def __init__(self, ages_ns: tuple[int, ...]) -> None:
        self._ages_ns = tuple(sorted(ages_ns))
        self._accounts: dict[int, _Account] = {}

    def __len__(self) -> int:
        return len(self._accounts)

    def open(self, born: Born) -> None:
        """A container is there; of one that was there before us some ages may be over."""
        if (listed := born.listed) is None:
            self._accounts[born.serial] = _Account(born.boot_ns, from_zero=True)
            return
        account = _Account(listed.init_start_ns, from_zero=False)
        now_age_s = account.age_s(born.boot_ns)
        account.stage = sum(
            now_age_s is None or age_ns < now_age_s * _SECOND for age_ns in self._ages_ns
        )
        self._accounts[born.serial] = account

    def close(self, serial: int) -> None:
        self._accounts.pop(serial, None)

    def note(self, item: Sampled | Exited) -> bool:
        """Whether something is to be told now."""
        account = self._accounts.get(item.serial)
        if account is None:
            return False  # it has ended meanwhile
        if isinstance(item, Exited):
            account.exited = item
            return False
        before = account.usage
        account.usage = item.usage if before is None else later(before, item.usage)
        if _in_time(item.usage):
            account.at_ns, account.final = item.boot_ns, account.final or item.final
        self._aged(account, item)
        self._killed(account, item.boot_ns, last=item.final)
        return bool(account.due)

    def usage(self, serial: int) -> Usage | None:
        """The last that is known; None: it was not looked at yet, or has ended."""
        account = self._accounts.get(serial)
        return account.usage if account is not None else None

    def reading(self, look: Sampled, told: ContainerEvent) -> Reading | None:
        """Of a look that was noted; None: its cgroup had gone, or the container is not known."""
        account = self._accounts.get(look.serial)
        if account is None or account.usage is None or not _in_time(look.usage):
            return None
        return Reading(
            serial=look.serial,
            container=told,
            boot_ns=look.boot_ns,
            age_seconds=account.age_s(look.boot_ns),
            usage=account.usage,
            rates=account.since_last(account.usage, look.boot_ns),
            final=look.final,
        )

    def _aged(self, account: _Account, item: Sampled) -> None:
        """The last of the ages that it has reached."""
        age_s, stage = account.age_s(item.boot_ns), account.stage
        if age_s is None:
            return
        while stage < len(self._ages_ns) and self._ages_ns[stage] <= age_s * _SECOND:
            stage += 1
        if stage > account.stage and account.usage is not None:
            account.due.append(_Due(self._ages_ns[stage - 1], 0, item.boot_ns, account.usage))
            account.stage = stage

    def _killed(self, account: _Account, at_ns: int, *, last: bool) -> None:
        """*last*: they need not wait for those of a look that comes after."""
        usage = account.usage
        if usage is None or usage.oom_kills is None:
            return
        if account.kills_told is None:  # what was killed before us is no news
            account.kills_told = 0 if account.from_zero else usage.oom_kills
        kills = usage.oom_kills - account.kills_told
        late = account.oom_ns is None or abs(at_ns - account.oom_ns) >= _OOM_PAUSE_NS
        if kills > 0 and (late or last):
            account.kills_told, account.oom_ns = usage.oom_kills, at_ns
            account.due.append(_Due(None, kills, at_ns, usage))

    # --- events -----------------------------------------------------------------------------

    def due(
        self, serial: int, told: ContainerEvent, wall_offset_ns: int, *, gone: bool = False
    ) -> list[ContainerUsage]:
        """What `note` found, once; *told*: what was told of the container last; *gone*: it has ended."""
        account = self._accounts.get(serial)
        if account is None:
            return []
        if gone and account.at_ns is not None:
            self._killed(account, account.at_ns, last=True)
        events = [self._event(account, told, each, wall_offset_ns) for each in account.due]
        account.due.clear()
        return events

    def _event(
        self, account: _Account, told: ContainerEvent, due: _Due, wall_offset_ns: int
    ) -> ContainerUsage:
        age_ns, kills, at_ns, usage = due
        suffix = f"oom-{usage.oom_kills}" if age_ns is None else f"usage-{age_ns / _SECOND:g}"
        return use_event(
            "container_oom" if age_ns is None else "container_usage",
            told,
            suffix,
            time_ns=at_ns + wall_offset_ns,
            age_s=account.age_s(at_ns),
            kills=kills,
            usage=usage,
            rates=self._rates(account, usage, at_ns, keep=age_ns is not None),
        )

    def _rates(self, account: _Account, usage: Usage, at_ns: int, *, keep: bool) -> Rates | None:
        """*keep*: the next ones begin here."""
        since_ns = account.told_ns
        if since_ns is None and account.from_zero:
            since_ns = account.born_ns
        known = (
            None if since_ns is None else rates(account.told, usage, (at_ns - since_ns) / _SECOND)
        )
        if keep:
            account.told, account.told_ns = usage, at_ns
        return known

    def bill(self, serial: int, gone_ns: int) -> Bill | None:
        """Of its whole life, which ended at *gone_ns*; None: nobody kept its account."""
        account = self._accounts.get(serial)
        if account is None:
            return None
        usage, exited = account.usage or _NEVER, account.exited
        lived_s = account.age_s(gone_ns)
        read_s = None if account.at_ns is None else max(0, gone_ns - account.at_ns) / _SECOND
        return Bill(
            duration_seconds=None if lived_s is None else round(lived_s, 6),
            exit_code=exited.code if exited is not None else None,
            exit_signal=exited.signal if exited is not None else None,
            final=account.final,
            read_before_end_seconds=None if read_s is None else round(read_s, 6),
            missing={name: why for name, why in usage.missing.items() if name in _FIGURES},
            **{name: getattr(usage, name) for name in _FIGURES},
        )
