"""Daemons that are away: nobody waits for them, one task asks, and who waits is told."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from ctrwatch.evidence import asking
from ctrwatch.evidence.asking import Daemons, Unanswered
from ctrwatch.model import Answer, Facts, Found, NotFound, Unavailable

HERE, THERE = "/run/here.sock", "/run/there.sock"
KNOWN = Found(Facts(name="web"))


class World:
    """Daemons by socket: what they answer, or how they fail; what was asked and told."""

    def __init__(self) -> None:
        self.daemons: dict[str, Answer | Exception | None] = {}  # None: it hangs
        self.questions: list[str] = []
        self.greetings: list[str] = []
        self.backs: list[str] = []
        self.back = asyncio.Event()

    async def question(self, socket: str) -> Answer:
        self.questions.append(socket)
        return await self._answer(socket)

    async def greet(self, socket: str) -> None:
        self.greetings.append(socket)
        await self._answer(socket)

    def is_back(self, source: str) -> None:
        self.backs.append(source)
        self.back.set()

    async def _answer(self, socket: str) -> Answer:
        answer = self.daemons[socket]
        if answer is None:
            await asyncio.Event().wait()
        if isinstance(answer, Exception):
            raise answer
        assert answer is not None
        return answer


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking, "ANSWER_S", 0.02)
    monkeypatch.setattr(asking, "_FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(asking._Daemon, "pause_s", 0.001)


@asynccontextmanager
async def asked(world: World) -> AsyncIterator[Callable[..., Awaitable[Answer]]]:
    daemons = Daemons("docker", world.greet, world.is_back)

    async def ask(*sockets: str) -> Answer:
        return await daemons.ask(sockets or (HERE,), world.question)

    try:
        async with asyncio.timeout(10):
            yield ask
    finally:
        await daemons.close()


AWAY = {
    "refuses": Unanswered("connection refused", away=True),
    "hangs": None,
}


@pytest.mark.parametrize("how", AWAY.values(), ids=AWAY)
async def test_a_daemon_that_is_away_is_asked_no_more_until_it_greets(
    how: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    world = World()
    world.daemons[HERE] = how
    async with asked(world) as ask:
        answers = [await ask() for _ in range(1000)]
        assert world.questions == [HERE]
        assert all(isinstance(each, Unavailable) and each.away for each in answers)
        assert world.backs == []

        world.daemons[HERE] = KNOWN
        await world.back.wait()
        assert world.backs == ["docker"]
        assert await ask() == KNOWN
    begin, end = (record.getMessage() for record in caplog.records)
    assert begin.startswith(f"docker: {HERE}: ")
    assert end == f"docker: {HERE} answers again"


async def test_a_daemon_that_is_forgotten_is_asked_no_more() -> None:
    world = World()
    world.daemons[HERE] = Unanswered("connection refused", away=True)
    daemons = Daemons("docker", world.greet, world.is_back)
    await daemons.ask([HERE], world.question)
    (task,) = (each for each in asyncio.all_tasks() if each.get_name() == "docker")

    daemons.forget(HERE)
    daemons.forget(THERE)

    await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert daemons.states([]) == {}


async def test_how_it_stands_with_each_is_known_without_asking() -> None:
    world = World()
    daemons = Daemons("docker", world.greet, world.is_back)
    assert daemons.states([]) == {}
    assert daemons.states([HERE, THERE]) == {"answering": 2}  # as far as is known

    world.daemons = {HERE: Unanswered("connection refused", away=True), THERE: KNOWN}
    await daemons.ask([HERE, THERE], world.question)
    assert daemons.states([HERE, THERE]) == {"away": 1, "answering": 1}
    assert daemons.states([THERE]) == {"away": 1, "answering": 1}  # its socket has gone with it

    world.daemons[THERE] = Unanswered("it answered 500")
    await daemons.ask([THERE], world.question)
    assert daemons.states([HERE, THERE]) == {"away": 1, "unreadable": 1}

    world.daemons = {HERE: KNOWN, THERE: KNOWN}
    await daemons.ask([THERE], world.question)
    await world.back.wait()
    daemons.appeared(HERE)
    while HERE not in world.greetings:  # noqa: ASYNC110 - a turn of the loop each
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert daemons.states([HERE, THERE]) == {"answering": 2}

    world.daemons[THERE] = None
    daemons.appeared(THERE)  # and has gone again while it is greeted
    assert daemons.states([]) == {}
    await daemons.close()


async def test_questions_under_way_share_one_loss(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.daemons[HERE] = None
    async with asked(world) as ask:
        await asyncio.gather(*(ask() for _ in range(101)))
        assert len(caplog.records) == 1


async def test_one_that_hangs_does_not_hide_or_hold_up_the_other() -> None:
    world = World()
    world.daemons = {HERE: None, THERE: NotFound()}
    async with asked(world) as ask:
        unknown = await ask(HERE, THERE)
        assert isinstance(unknown, Unavailable)
        assert unknown.away
        world.daemons[THERE] = KNOWN
        assert await ask(HERE, THERE) == KNOWN
        assert world.questions == [HERE, THERE, THERE]


async def test_answers_that_can_not_be_read_may_be_one_containers_matter(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Others are asked about as before, and an answer brings the ones that failed."""
    world = World()
    world.daemons[HERE] = Unanswered("it answered 500")
    daemons = Daemons("docker", world.greet, world.is_back)
    for number in range(1, 4):
        answer = await daemons.ask([HERE], world.question)
        assert answer == Unavailable(f"docker: {HERE}: it answered 500", away=True)
        assert len(world.questions) == number, "each is asked"
    while len(world.questions) < 6:  # noqa: ASYNC110 - one task goes on asking
        await asyncio.sleep(0.001)
    assert world.backs == []
    world.daemons[HERE] = KNOWN
    assert await daemons.ask([HERE], world.question) == KNOWN
    assert world.backs == ["docker"]
    assert world.greetings == []
    assert [record.getMessage().split()[1] for record in caplog.records] == [f"{HERE}:", HERE]
    await daemons.close()


async def test_the_log_is_not_for_every_coming_and_going(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    daemons = Daemons("docker", world.greet, world.is_back)
    for _ in range(101):
        world.daemons[HERE] = Unanswered("it answered 500")
        await daemons.ask([HERE], world.question)
        world.daemons[HERE] = KNOWN
        await daemons.ask([HERE], world.question)
    assert len(world.backs) == 101
    assert len(caplog.records) == 2
    await daemons.close()


async def test_a_socket_that_appears_is_greeted_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asking._Daemon, "pause_s", 3600)
    world = World()
    daemons = Daemons("docker", world.greet, world.is_back)
    world.daemons[HERE] = Unanswered("connection refused", away=True)
    await daemons.ask([HERE], world.question)
    world.daemons[HERE] = KNOWN
    daemons.appeared(HERE)
    await asyncio.wait_for(world.back.wait(), 5)
    daemons.appeared(THERE)  # a socket that nobody asked for yet, and that is not ready
    world.daemons[THERE] = Unanswered("connection refused", away=True)
    while THERE not in world.greetings:  # noqa: ASYNC110 - a turn of the loop each
        await asyncio.sleep(0)
    assert world.backs == ["docker"]
    await daemons.close()


async def test_a_question_that_a_daemon_can_not_bear_is_put_with_growing_pauses() -> None:
    """It greets, is asked, hangs: a sign of life does not make the pauses short again."""
    world = World()
    daemons = Daemons("docker", world.greet, world.is_back)

    async def question(socket: str) -> Answer:
        raise Unanswered("the connection broke", away=True)

    world.daemons[HERE] = KNOWN
    for _ in range(6):
        world.back.clear()
        await daemons.ask([HERE], question)
        await asyncio.wait_for(world.back.wait(), 5)
    assert daemons._daemons[HERE].pause_s >= 0.001 * 2**5
    await daemons.ask([HERE], world.question)
    assert daemons._daemons[HERE].pause_s == 0.001
    await daemons.close()


async def test_nobody_is_greeted_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """After that the next question is the try, and its answer brings the rest."""
    monkeypatch.setattr(asking, "_GIVE_UP_S", 0.005)
    world = World()
    world.daemons[HERE] = Unanswered("connection refused", away=True)
    daemons = Daemons("docker", world.greet, world.is_back)
    await daemons.ask([HERE], world.question)
    task = daemons._daemons[HERE].task
    assert task is not None
    await asyncio.wait_for(task, 5)
    world.daemons[HERE] = KNOWN
    assert world.backs == []
    assert await daemons.ask([HERE], world.question) == KNOWN
    assert world.backs == ["docker"]
    await daemons.close()


async def test_sockets_that_strangers_name_are_remembered_within_bounds() -> None:
    world = World()
    daemons = Daemons("containerd", world.greet, world.is_back)
    for number in range(1000):
        socket = f"/tmp/{number}"
        world.daemons[socket] = Unanswered("no such file", away=True)
        await daemons.ask([socket], world.question)
    assert len(daemons._daemons) == asking._MOST
    tasks = [task for task in asyncio.all_tasks() if task.get_name() == "containerd"]
    assert len([task for task in tasks if not task.cancelling()]) == asking._MOST
    await daemons.close()
