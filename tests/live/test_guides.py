"""Every command on a guide's page is executed, on a host with real containers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.live.guides import Guide
from tests.live.runtimes import Ctr


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


GUIDES: dict[str, Callable[[Guide], None]] = {
    "policies.md": written,
    "find.md": found,
    "prove.md": proved,
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
def test_a_guide_can_be_followed(page: str, tmp_path: Path) -> None:
    guide = Guide(page, tmp_path)
    guide.follow()

    GUIDES[page](guide)


def printed(guide: Guide, words: str) -> str:
    """What the page's one command with these words printed."""
    [text] = [text for step, text in guide.followed if words in step.command]
    return text
