"""The queue on disk: order, bounds, and files that are no queue."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from ctrwatch.errors import InputError
from ctrwatch.outputs.backlog import Backlog


def test_in_order_and_still_there_after_a_restart(tmp_path: Path) -> None:
    with Backlog(tmp_path / "q") as backlog:
        for number in range(3):
            assert backlog.add(f"v{number}", b"x" * number)
    with Backlog(tmp_path / "q") as backlog:
        assert len(backlog) == 3
        ids = []
        while (first := backlog.first()) is not None:
            ids.append(first.id)
            backlog.remove(first)
        assert ids == ["v0", "v1", "v2"]
        assert len(backlog) == 0


def test_one_that_waits_is_not_added_again(tmp_path: Path) -> None:
    with Backlog(tmp_path / "q") as backlog:
        backlog.add("v1", b"a")
        backlog.add("v1", b"a")

        assert len(backlog) == 1


@pytest.mark.parametrize("bound", [{"most": 2}, {"size": 20}], ids=["number", "bytes"])
def test_what_finds_no_room_is_counted_and_the_next_one_says_so(
    tmp_path: Path, bound: dict[str, int]
) -> None:
    with Backlog(tmp_path / "q", **bound) as backlog:
        kept = [backlog.add(f"v{number}", b"x" * 10) for number in range(5)]
        assert kept == [True, True, False, False, False]
        assert backlog.dropped == 3
        first = backlog.first()
        assert first is not None
        backlog.remove(first)
        backlog.missed(1)  # one that did not even get here

        assert backlog.add("v9", b"x" * 10)
        second = backlog.first()
        assert second is not None
        backlog.remove(second)
        last = backlog.first()
        assert last is not None
        assert (last.id, last.dropped, backlog.dropped) == ("v9", 4, 4)


def test_only_its_owner_reads_it(tmp_path: Path) -> None:
    with Backlog(tmp_path / "q") as backlog:
        backlog.add("v1", b"a")
        assert (tmp_path / "q").stat().st_mode & 0o777 == 0o600


def test_a_second_one_is_refused(tmp_path: Path) -> None:
    with Backlog(tmp_path / "q"), pytest.raises(InputError, match="another ctrwatch uses it"):
        Backlog(tmp_path / "q")


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    (tmp_path / "q").write_bytes(b"not a database, and long enough to be looked at" * 20)
    with pytest.raises(InputError, match="file is not a database"):
        Backlog(tmp_path / "q")


def test_another_programs_database(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "q") as other:
        other.execute("CREATE TABLE waiting (x)")
    other.close()
    with pytest.raises(InputError, match="not a queue of ctrwatch's"):
        Backlog(tmp_path / "q")


def test_a_newer_one(tmp_path: Path) -> None:
    with Backlog(tmp_path / "q"):
        pass
    with sqlite3.connect(tmp_path / "q") as newer:
        newer.execute("PRAGMA user_version = 9")
    newer.close()
    with pytest.raises(InputError, match="format 9, this one reads 1"):
        Backlog(tmp_path / "q")


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file or directory"):
        Backlog(tmp_path / "none" / "q")
