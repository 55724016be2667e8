"""Stories at rest are the same when they are taken again, and small."""

from __future__ import annotations

import sys

import msgspec

from ctrwatch.core.shelf import Asked, Shelf, Story
from ctrwatch.model import Found, NotFound
from tests.unit.test_render import WEB
from tests.unit.test_story import BORN_NS, RECORD, born


def story(serial: int = 1, **changes: object) -> Story:
    made = Story(
        born=born(serial),
        cgroup=born(serial).cgroup,
        path=born().path,
        settled_ns=BORN_NS,
        born_offset_ns=0,
        told=WEB,
        asked={"docker": Asked(tries=3, last=Found(RECORD)), "bundle": Asked(last=NotFound())},
    )
    made.known.add("docker", RECORD)
    return msgspec.structs.replace(made, **changes)


def test_a_story_comes_back_as_it_was() -> None:
    shelf = Shelf(warm=0)
    for serial in (1, 2):
        shelf.add(serial, story(serial))
        assert shelf.rest(serial) == story(serial)
    assert shelf.in_hand == {}
    assert len(shelf) == 2

    assert shelf.look(2) == story(2)
    assert shelf.in_hand == {}, "only looked at"
    assert shelf.take(2) == story(2)
    assert list(shelf.in_hand) == [2]
    shelf.remove(2)
    assert shelf.take(2) is None


def test_the_last_ones_stay_as_they_are() -> None:
    shelf = Shelf(warm=2)
    for serial in (1, 2, 3):
        shelf.add(serial, story(serial))

    assert [shelf.rest(serial) for serial in (1, 2)] == [None, None]
    shelf.take(1)  # something happened to it: now 2 has rested longest
    shelf.rest(1)
    assert shelf.rest(3) == story(2)
    assert list(shelf.in_hand) == [1, 3]
    assert len(shelf) == 3


def test_what_is_awaited_stays_in_hand() -> None:
    shelf = Shelf(warm=0)
    awaited = {
        1: story(1, told=None),
        2: story(2, asked={"docker": Asked(pending=True)}),
        3: story(3, path="/\udcff"),  # no UTF-8, so it can't be packed
    }
    for serial, each in awaited.items():
        shelf.add(serial, each)
        assert shelf.rest(serial) is None

    assert shelf.in_hand == awaited


def test_a_story_beside_others_like_it_is_small() -> None:
    shelf = Shelf(warm=0)
    for serial in range(1, 12):
        shelf.add(serial, story(serial))
        shelf.rest(serial)

    assert max(map(sys.getsizeof, list(shelf._packed.values())[1:])) < 300
