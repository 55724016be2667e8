"""What a container uses, read from directories that look like its cgroups."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

import pytest

from ctrwatch.core.changes import Living
from ctrwatch.event import Unread
from ctrwatch.model import CgroupKey, ContainerId
from ctrwatch.sensor.host import Hierarchy, Host
from ctrwatch.sensor.usage import UsageReader
from tests.unit.cgroup_files import HYBRID, V2

PATH = "/docker/web"
V1 = {2: "cpu,cpuacct", 3: "memory", 4: "blkio", 5: "pids", 6: "name=systemd", 7: "freezer"}
Texts = Mapping[tuple[int, str], bytes | Unread]


class Tree:
    """Hierarchies of a host, each a directory; an inode is an inode."""

    def __init__(self, home: Path, controllers: Mapping[int, str]) -> None:
        self.home = home
        hierarchies = {
            number: Hierarchy(number, str(home / str(number)), spelled)
            for number, spelled in controllers.items()
        }
        if 0 in hierarchies:
            (home / "0").mkdir(parents=True)
            offered = "" if len(hierarchies) > 1 else "cpuset cpu io memory pids"
            (home / "0/cgroup.controllers").write_text(offered + "\n")
        self.reader = UsageReader(Host("h", "b", "6.18", hierarchies))
        self.controllers = controllers

    def directory(self, hierarchy: int, path: str = PATH) -> Path:
        return Path(f"{self.home}/{hierarchy}{path}")

    def make(self, texts: Texts, path: str = PATH) -> Living:
        for number, spelled in self.controllers.items():
            directory = self.directory(number, path)
            directory.mkdir(parents=True)
            for (version, file), raw in texts.items():
                mine = number == 0 if version == 2 else file.partition(".")[0] in spelled.split(",")
                if mine and isinstance(raw, bytes):
                    (directory / file).write_bytes(raw)
        cgroups = [
            CgroupKey(number, self.directory(number, path).stat().st_ino)
            for number in self.controllers
        ]
        return Living(1, ContainerId("web"), path, tuple(cgroups))


@pytest.fixture
def hybrid(tmp_path: Path) -> Tree:
    return Tree(tmp_path, {**V1, 0: ""})


@pytest.fixture
def v2(tmp_path: Path) -> Tree:
    return Tree(tmp_path, {0: ""})


def test_on_a_hybrid_host_a_dozen_directories_are_one_container(hybrid: Tree) -> None:
    used = hybrid.reader.read(hybrid.make(HYBRID))

    assert used.missing == {}
    assert (used.memory_bytes, used.pids, used.oom_kills) == (9437184, 3, 2)
    assert used.pressure is not None


def test_on_v2_it_is_one(v2: Tree) -> None:
    used = v2.reader.read(v2.make(V2))

    assert used.missing == {}
    assert (used.memory_peak_bytes, used.io_read_bytes, used.throttled_periods) == (
        12582912,
        5120,
        7,
    )


def test_a_hierarchy_that_is_not_mounted_counts_nothing(tmp_path: Path) -> None:
    tree = Tree(tmp_path, {2: "cpu,cpuacct"})

    used = tree.reader.read(tree.make(HYBRID))

    assert used.cpu_user_seconds == 1.0
    assert used.missing["memory_bytes"] is Unread.NO_CONTROLLER


def test_controllers_that_v1_has_are_not_looked_for_in_the_unified_hierarchy(
    tmp_path: Path,
) -> None:
    """A host on which only the CPU is counted, and by v2; its cgroups have no files of the others."""
    tree = Tree(tmp_path, {0: ""})
    (tmp_path / "0/cgroup.controllers").write_text("cpu\n")
    reader = UsageReader(Host("h", "b", "6.18", {0: Hierarchy(0, str(tmp_path / "0"), "")}))

    used = reader.read(tree.make({key: raw for key, raw in V2.items() if key[1] == "cpu.stat"}))

    assert used.throttled_periods == 7
    for name in ("memory_bytes", "oom_kills", "io_read_bytes", "pids", "pids_limit"):
        assert used.missing[name] is Unread.NO_CONTROLLER


def test_a_limit_of_zero_and_one_that_is_none(v2: Tree) -> None:
    zero = v2.make({**V2, (2, "memory.max"): b"0\n", (2, "pids.max"): b"0\n"})
    none = v2.make({**V2, (2, "memory.max"): b"max\n", (2, "pids.max"): b"max\n"}, "/docker/b")

    for living, limit in ((zero, 0), (none, None)):
        used = v2.reader.read(living)
        assert (used.memory_limit_bytes, used.pids_limit, used.missing) == (limit, limit, {})


def test_a_cgroup_that_has_gone_is_a_value(v2: Tree) -> None:
    living = v2.make(V2)
    shutil.rmtree(v2.directory(0))

    used = v2.reader.read(living)

    assert set(used.missing.values()) == {Unread.GONE}
    assert used.cpu_seconds is None


def test_what_goes_on_the_way_is_gone_not_missing(hybrid: Tree) -> None:
    """A runtime removes one directory after the other."""
    living = hybrid.make(HYBRID)
    shutil.rmtree(hybrid.directory(3))

    used = hybrid.reader.read(living)

    assert used.cpu_user_seconds == 1.0
    assert used.missing["memory_bytes"] is used.missing["oom_kills"] is Unread.GONE


def test_a_name_that_is_used_again_is_another_container(v2: Tree) -> None:
    living = v2.make(V2)
    v2.directory(0).rename(v2.directory(0, "/docker/away"))
    v2.directory(0).mkdir()
    (v2.directory(0) / "cpu.stat").write_bytes(b"usage_usec 99\n")

    assert v2.reader.read(living).cpu_seconds is None


@pytest.mark.parametrize("file", ["memory.current", "cpu.stat"])
def test_what_can_not_be_read_is_unreadable(v2: Tree, file: str) -> None:
    living = v2.make(V2)
    (v2.directory(0) / file).unlink()
    (v2.directory(0) / file).mkdir()

    assert Unread.UNREADABLE in v2.reader.read(living).missing.values()


def test_a_file_that_this_kernel_lacks_is_not_offered(v2: Tree) -> None:
    living = v2.make(V2)
    (v2.directory(0) / "memory.peak").unlink()

    assert v2.reader.read(living).missing == {"memory_peak_bytes": Unread.NOT_OFFERED}


def test_on_v1_kills_below_the_container_are_its_own(hybrid: Tree) -> None:
    living = hybrid.make(HYBRID)
    for child, kills in (("docker", 1), ("docker/inner", 4)):
        directory = hybrid.directory(3) / child
        directory.mkdir()
        (directory / "memory.oom_control").write_bytes(b"under_oom 0\noom_kill %d\n" % kills)

    assert hybrid.reader.read(living).oom_kills == 7
    assert hybrid.reader.kills(living) == 7


def test_kills_alone_are_read_on_either_version(hybrid: Tree, tmp_path: Path) -> None:
    v2 = Tree(tmp_path / "v2", {0: ""})

    assert hybrid.reader.kills(hybrid.make(HYBRID)) == 2
    assert v2.reader.kills(v2.make(V2)) == 2
    gone = Living(1, ContainerId("web"), "/gone", (CgroupKey(0, 1), CgroupKey(3, 1)))
    assert v2.reader.kills(gone) is None


@pytest.mark.parametrize(
    ("of_the_host", "told"),
    [
        pytest.param(b"Total 0\n", None, id="a kernel that does not count"),
        pytest.param(b"8:0 Read 5\n8:0 Write 0\nTotal 5\n", 0, id="a container without I/O"),
    ],
)
def test_on_v1_no_io_is_believed_only_where_the_host_has_some(
    hybrid: Tree, of_the_host: bytes, told: int | None
) -> None:
    names = ("blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_serviced_recursive")
    living = hybrid.make({**HYBRID, **dict.fromkeys([(1, name) for name in names], b"Total 0\n")})
    for name in names:
        (hybrid.home / "4" / name).write_bytes(of_the_host)

    used = hybrid.reader.read(living)

    assert (used.io_read_bytes, used.io_writes) == (told, told)
    assert used.missing.get("io_read_bytes") == (None if told == 0 else Unread.NOT_OFFERED)
