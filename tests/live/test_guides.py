"""Every command on a guide's page is executed, on a host with real containers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live.guides import Guide
from tests.live.runtimes import Ctr
from tests.live.waiting import until
from tests.live.watching import DEADLINE_S, ctrwatch


def written(guide: Guide) -> None:
    assert len(guide.followed) >= 3


def found(guide: Guide) -> None:
    for command in ("ps --policy", "history.db --violations", "--fail-on critical"):
        assert "attack-containers/privileged" in printed(guide, command), command
    for command in ("ps --where 'security.priv", "--since 7d --where"):
        assert "uninvited" in printed(guide, command), command
        assert "guided" not in printed(guide, command), command


def proved(guide: Guide) -> None:
    assert "2 births by containerd" in printed(guide, "cat approved.yaml")
    assert "chain is whole" in printed(guide, "| tee proof.txt")
    assert "chain is whole" in printed(guide, "--verify --head")
    replayed = printed(guide, "policy replay")  # others' containers on this host may be unknown
    assert not any(word in replayed for word in ("  violation  ", "guided", "uninvited"))


def eaten(guide: Guide) -> None:
    assert "AGE" in printed(guide, "sudo ctrwatch top", exactly=True)
    assert "uninvited" in printed(guide, "--once --sort cpu")
    for command in ("--heaviest --since", "cat heaviest.csv"):
        assert "eater" in printed(guide, command).splitlines()[1], command
    assert "eater" in printed(guide, "ps --where")
    assert "resources/unlimited" in printed(guide, "--policy resources --only")
    assert "resources/unlimited" in printed(guide, "history.db --violations")


GUIDES: dict[str, Callable[[Guide], None]] = {
    "policies.md": written,
    "find.md": found,
    "prove.md": proved,
    "eating.md": eaten,
}


@pytest.fixture
def guided(ctr: Ctr) -> Iterator[None]:
    """A container as any other, and one that should not be there."""
    ctr.run("guided", "sleep", "600")
    try:
        ctr.run("uninvited", "sleep", "600", options=("--privileged",))
        yield
        ctr.remove("uninvited")
    finally:
        ctr.remove("guided")


@pytest.mark.usefixtures("guided")
@pytest.mark.parametrize("page", GUIDES)
def test_a_guide_can_be_followed(page: str, ctr: Ctr, tmp_path: Path) -> None:
    def eats() -> None:
        """A newborn that takes a core, until the store knows it."""
        ctr.run("eater", "sh", "-c", "while :; do :; done")
        ask = ("history", "--store", str(tmp_path / "history.db"), "--heaviest", "--csv")
        until("its use in the store", lambda: "eater" in ctrwatch(*ask), DEADLINE_S)

    guide = Guide(page, tmp_path, eats if page == "eating.md" else None)
    try:
        guide.follow()
    finally:
        if page == "eating.md":
            ctr.remove("eater")

    GUIDES[page](guide)


def printed(guide: Guide, words: str, *, exactly: bool = False) -> str:
    """What the page's one command with these words (*exactly*: of these) printed."""
    [text] = [
        text
        for step, text in guide.followed
        if (words == step.command if exactly else words in step.command)
    ]
    return text
