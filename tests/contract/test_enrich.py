"""Questions are counted: what waits, what was answered, and how long it took."""

from __future__ import annotations

import asyncio

import pytest

from ctrwatch import enrich
from ctrwatch.core.story import Ask
from ctrwatch.enrich import Enricher
from ctrwatch.model import Answer, Facts, Found, NotFound, Subject, Unavailable
from tests.contract.data import subject


class Source:
    """Says what it is given to say; nothing yet: it hangs."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.said: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.asked = asyncio.Event()

    async def ask(self, subject: Subject) -> Answer:
        del subject
        self.asked.set()
        return await asyncio.shield(self.said)

    async def close(self) -> None: ...


def question(serial: int, source: str) -> Ask:
    return Ask(serial, source, subject("ab" * 32), 0)


async def test_what_waits_is_what_is_asked_and_what_has_no_turn_yet() -> None:
    slow, quick = Source("slow"), Source("quick")
    replies: list[tuple[int, str, Answer]] = []
    enricher = Enricher({"slow": slow, "quick": quick}, lambda *reply: replies.append(reply))
    quick.said.set_result(NotFound())
    async with asyncio.timeout(10), asyncio.TaskGroup() as tasks:
        for serial in range(23):
            tasks.create_task(enricher.ask(question(serial, "slow")))
        await enricher.ask(question(100, "quick"))
        await slow.asked.wait()

        assert enricher.asked["slow"].waiting == 23
        assert enricher.asked["quick"].waiting == 0
        assert enricher.asked["quick"].answers == {"not_found": 1}
        slow.said.set_result(Found(Facts()))

    assert sorted(serial for serial, _, _ in replies) == [*range(23), 100]
    assert enricher.asked["slow"].waiting == 0
    assert enricher.asked["slow"].answers == {"found": 23}
    assert enricher.asked["slow"].answer_s.at_most()[-1] == 23


async def test_an_answer_that_does_not_come_took_as_long_as_it_was_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(enrich, "DEADLINE_S", 0.05)
    replies: list[Answer] = []
    enricher = Enricher({"slow": Source("slow")}, lambda *reply: replies.append(reply[2]))

    await enricher.ask(question(1, "slow"))

    assert [type(each) for each in replies] == [Unavailable]
    assert enricher.asked["slow"].answers == {"unavailable": 1}
    assert enricher.asked["slow"].answer_s.sum_s >= 0.05


async def test_a_question_that_is_dropped_waits_no_more() -> None:
    slow = Source("slow")
    replies: list[Answer] = []
    enricher = Enricher({"slow": slow}, lambda *reply: replies.append(reply[2]))
    task = asyncio.create_task(enricher.ask(question(1, "slow")))
    await slow.asked.wait()

    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert enricher.asked["slow"].waiting == 0
    assert not enricher.asked["slow"].answers
    assert replies == []
