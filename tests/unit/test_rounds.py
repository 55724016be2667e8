"""What runtimes remember of the time without a watch, against what was heard since."""

from __future__ import annotations

import time

from ctrwatch.core.chain import Chain, Input
from ctrwatch.core.report import Gap
from ctrwatch.model import ContainerId, Listed, Listing, Record, Runtime, Subject
from ctrwatch.outputs.state import Past
from ctrwatch.rounds import Rounds
from ctrwatch.sensor.host import Host
from tests.unit.builders import CID, V2, Kernel, runc
from tests.unit.test_chain import HEADER

HOST = Host("h", "b", "6.1", {})
SECOND_NS = 1_000_000_000


class Records:
    """A runtime that lists containers which do not run, made a second ago."""

    def __init__(self, *container_ids: str) -> None:
        created_ns = time.time_ns() - SECOND_NS
        self._records = tuple(
            Record(
                source="containerd",
                runtime=Runtime.CONTAINERD,
                container_id=ContainerId(each),
                uid=0,
                created_ns=created_ns,
                running=False,
            )
            for each in container_ids
        )

    async def records(self) -> Listing:
        return Listing(records=self._records)

    async def knows(self, subject: Subject) -> bool:
        del subject
        return True


class Restarted:
    """A watch after a restart: its chain, and what its rounds feed."""

    def __init__(self) -> None:
        self.chain, self.fed = Chain(HEADER), list[Input]()
        self.chain.births = set()
        self.rounds = Rounds(HOST, None, self.chain, self.fed.append, wait_s=2)
        self.rounds.runtimes = Records(CID)
        self.past = Past(time.time_ns() - 10 * SECOND_NS, {})

    async def begin(self) -> list[str]:
        await self.rounds.begin(self.past, existing=True)
        return [each.container_id for each in self.fed if isinstance(each, Listed)]


async def test_what_was_heard_and_has_ended_already_is_not_told_again() -> None:
    """Born after the sensor was attached, and gone before the runtimes were asked."""
    watch, kernel = Restarted(), Kernel()
    for event in kernel.birth(f"/demo/{CID}", runc(CID), V2):
        watch.chain.feed(event)
    watch.chain.feed(kernel.rmdir(f"/demo/{CID}"))
    assert watch.chain.containers() == []

    assert await watch.begin() == []
    assert watch.chain.births is None  # nothing is kept for it later


async def test_a_gap_begins_before_what_was_heard_and_not_told() -> None:
    watch = Restarted()
    watch.rounds.runtimes = None
    await watch.begin()

    (gap,) = [each for each in watch.fed if isinstance(each, Gap)]
    assert gap.since_ns == watch.past.until_ns - 2_500_000_000
