"""The hierarchies of a host, from the kernel's own tables."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from ctrwatch.model import CgroupKey
from ctrwatch.sensor.host import Hierarchy, Host, _hierarchies, read_host, wall_offset_ns

V2_OWN = "0::/init.scope\n"
V2 = "25 30 0:22 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"
HYBRID_OWN = "3:cpu,cpuacct:/a\n2:pids:/a\n1:name=systemd:/a\n0::/a\n"
HYBRID = """\
25 30 0:22 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
26 25 0:23 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
27 25 0:24 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd
28 25 0:25 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
29 25 0:26 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
"""


def host(own: str, mountinfo: str) -> Host:
    return Host("h", "b", "6.18", _hierarchies(own, mountinfo))


@pytest.mark.parametrize(
    ("own", "mountinfo", "mode", "mounts"),
    [
        pytest.param(V2_OWN, V2, "v2", {0: "/sys/fs/cgroup"}, id="v2"),
        pytest.param(
            HYBRID_OWN,
            HYBRID,
            "hybrid",
            {
                0: "/sys/fs/cgroup/unified",
                1: "/sys/fs/cgroup/systemd",
                2: "/sys/fs/cgroup/pids",
                3: "/sys/fs/cgroup/cpu,cpuacct",
            },
            id="hybrid",
        ),
        pytest.param(
            HYBRID_OWN,
            HYBRID.replace("unified rw - cgroup2", "unified rw - tmpfs"),
            "v1",
            {
                1: "/sys/fs/cgroup/systemd",
                2: "/sys/fs/cgroup/pids",
                3: "/sys/fs/cgroup/cpu,cpuacct",
            },
            id="v1",
        ),
        pytest.param("", "", "v1", {}, id="nothing"),
    ],
)
def test_mode_and_mounts(own: str, mountinfo: str, mode: str, mounts: dict[int, str]) -> None:
    this = host(own, mountinfo)

    assert this.mode == mode
    assert this.has_unified == (0 in mounts)
    assert {number: each.mount for number, each in this.hierarchies.items()} == mounts


@pytest.mark.parametrize(
    ("written", "mount"),
    [
        pytest.param(r"/my\040cg", "/my cg", id="space"),
        pytest.param(r"/a\134040", r"/a\040", id="backslash"),
        pytest.param("/caf\u00e9", "/caf\u00e9", id="not-ascii"),
        pytest.param("/caf\udce9", "/caf\udce9", id="no-utf-8"),
        pytest.param("/a\u2028b", "/a\u2028b", id="line-separator"),
    ],
)
def test_mount_points_of_any_name(written: str, mount: str) -> None:
    assert host(V2_OWN, V2.replace("/sys/fs/cgroup", written)).hierarchies[0].mount == mount


def test_a_whole_hierarchy_comes_before_a_part_of_it() -> None:
    part = "24 30 0:22 /a/b /part rw - cgroup2 cgroup2 rw\n"

    assert host(V2_OWN, part + V2).hierarchies[0].mount == "/sys/fs/cgroup"
    assert host(V2_OWN, part).hierarchies[0].mount == "/part"


def test_our_own_cgroup_may_have_any_name() -> None:
    own = HYBRID_OWN.replace("/a", "/a:b\u2028c\udcff")

    assert set(host(own, HYBRID).hierarchies) == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("key", "path", "directory"),
    [
        pytest.param(CgroupKey(0, 5), "/a/b", "/cg/a/b", id="below"),
        pytest.param(CgroupKey(0, 5), "/", "/cg", id="root"),
        pytest.param(CgroupKey(4, 5), "/a/b", None, id="not-mounted"),
    ],
)
def test_the_directory_of_a_cgroup(key: CgroupKey, path: str, directory: str | None) -> None:
    this = Host("h", "b", "6.18", {0: Hierarchy(0, "/cg", "")})

    assert this.directory(key, path) == directory


@pytest.mark.parametrize("mount", ["/no/such/mount", "/proc/self/status", "/proc"])
def test_a_path_that_can_not_be_resolved_is_none(mount: str) -> None:
    this = Host("h", "b", "6.18", {0: Hierarchy(0, mount, "")})

    assert this.resolve(CgroupKey(0, 1)) is None
    assert this.resolve(CgroupKey(7, 1)) is None


def test_this_host() -> None:
    this = read_host()

    assert this.boot_id == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert this.mode in ("v1", "v2", "hybrid")
    assert all(Path(each.mount).is_dir() for each in this.hierarchies.values())


def test_the_offset_turns_the_kernels_clock_into_ours() -> None:
    boot_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    assert abs(boot_ns + wall_offset_ns() - time.time_ns()) < 5_000_000_000
