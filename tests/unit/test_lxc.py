"""LXC's command lines and configurations: names, and what a container may do."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, strategies as st

from ctrwatch.core.capabilities import ALL
from ctrwatch.core.lxc import LxcCall, config, lxc_call, settings
from ctrwatch.core.spec import describe
from ctrwatch.model import Facts, Mount, Security

MONITOR = "[lxc monitor] /var/lib/lxc web"


@pytest.mark.parametrize(
    ("argv", "name", "lxcpath"),
    [
        pytest.param((MONITOR,), "web", "/var/lib/lxc", id="a-monitor-in-the-background"),
        pytest.param(("[lxc monitor] /a b/lxc web",), "web", "/a b/lxc", id="a-space-in-the-path"),
        pytest.param(("lxc-start", "-F", "-n", "web"), "web", "", id="foreground"),
        pytest.param(("/usr/bin/lxc-start", "-Fn", "web", "-P/l"), "web", "/l", id="joined-flags"),
        pytest.param(("lxc-start", "--name=web", "--lxcpath=/l"), "web", "/l", id="long-flags"),
        pytest.param(("lxc-start", "web"), "web", "", id="the-name-is-a-word"),
        pytest.param(("lxc-execute", "-n", "web", "--", "sh", "-c", "x"), "web", "", id="execute"),
    ],
)
def test_who_makes_a_container(argv: tuple[str, ...], name: str, lxcpath: str) -> None:
    call = lxc_call(argv)

    assert call is not None
    assert (call.name, call.lxcpath) == (name, lxcpath)


@pytest.mark.parametrize(
    "argv",
    [
        pytest.param((), id="nothing"),
        pytest.param(("lxc-attach", "-n", "web", "--", "true"), id="a-session"),
        pytest.param(("lxc-start",), id="without-a-name"),
        pytest.param(("lxc-start", "-n", "../web"), id="a-name-that-is-a-path"),
        pytest.param(("[lxc monitor] ",), id="a-title-without-a-name"),
        pytest.param(("lxc-start", "-n", "x" * 256), id="a-name-too-long"),
    ],
)
def test_who_makes_none(argv: tuple[str, ...]) -> None:
    assert lxc_call(argv) is None


def test_what_is_typed_wins_over_the_configuration() -> None:
    line = "lxc-start -F -n web -s lxc.init.cwd=/srv --share-net 42 -- sh"
    call = lxc_call(tuple(line.split()))
    facts = said("lxc.init.cmd = /sbin/init\nlxc.init.cwd = /", call)

    assert facts.process is not None
    assert (facts.process.args, facts.process.cwd) == (("sh",), "/srv")
    assert security(facts).host_network is None  # whose it is, is not known


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("lxc.init.cwd = " + " " * 200_000 + "x", id="before"),
        pytest.param("lxc.init.cwd = x" + " \u2003\t" * 80_000 + "y", id="within"),
        pytest.param("lxc.init.cwd" + " " * 200_000, id="no-value"),
        pytest.param(" " * 200_000 + "lxc", id="no-key"),
    ],
)
def test_a_quarter_megabyte_of_blanks_takes_no_time(line: str) -> None:
    before_s = time.thread_time()
    list(settings(line))

    assert time.thread_time() - before_s < 0.5  # it was minutes


@pytest.mark.parametrize("uid", ["9" * 5000, "²", "-1", "x"])
def test_a_user_that_is_no_number_is_root(uid: str) -> None:
    assert security(said(f"lxc.init.uid = {uid}")).user == "0:0"


def test_a_namespace_is_its_own_unless_it_is_said() -> None:
    own = security(said(""))
    hosts = security(said("lxc.net.0.type = none\nlxc.namespace.keep = pid ipc"))
    both = security(said("lxc.net.0.type = none\nlxc.net.1.type = veth"))
    some = security(said("lxc.namespace.clone = pid mnt"))

    assert (own.host_network, own.host_pid, own.host_ipc) == (False, False, False)
    assert (hosts.host_network, hosts.host_pid, hosts.host_ipc) == (True, True, True)
    assert both.host_network is False
    assert (some.host_network, some.host_pid, some.host_ipc) == (True, False, True)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("", ALL, id="all"),
        pytest.param(
            "lxc.cap.drop = sys_module kill", ALL - {"CAP_SYS_MODULE", "CAP_KILL"}, id="drop"
        ),
        pytest.param("lxc.cap.drop = kill\nlxc.cap.drop =", ALL, id="dropped-no-more"),
        pytest.param("lxc.cap.keep = kill chown", {"CAP_KILL", "CAP_CHOWN"}, id="keep"),
        pytest.param("lxc.cap.keep = none", set(), id="keep-none"),
        pytest.param("lxc.cap.keep = kill none chown", {"CAP_CHOWN"}, id="none-takes-back"),
    ],
)
def test_capabilities(text: str, expected: set[str]) -> None:
    assert set(security(said(text)).capabilities) == expected


def test_privileged_is_who_may_do_all_and_see_all() -> None:
    assert security(said("")).privileged is True
    for line in ("lxc.cap.drop = sys_module", "lxc.idmap = u 0 100000 65536",
                 "lxc.cgroup2.devices.deny = a", "lxc.mount.auto = proc:mixed"):  # fmt: skip
        assert security(said(line)).privileged is False, line
    assert security(said("lxc.mount.auto = proc:rw sys:rw")).privileged is True


def test_binds_are_told_and_devices_among_them() -> None:
    facts = said(
        "lxc.mount.entry = /srv/www var/www none ro,bind,create=dir 0 0\n"
        "lxc.mount.entry = shm dev/shm tmpfs defaults 0 0\n"
        "lxc.mount.entry = /dev/kvm dev/kvm none bind,create=file 0 0\n"
        "lxc.mount.entry = half a line\n"
    )

    assert security(facts).mounts == (
        Mount(source="/srv/www", destination="/var/www", type="bind", read_only=True),
        Mount(source="/dev/kvm", destination="/dev/kvm", type="bind", read_only=False),
    )
    assert security(facts).devices == ("/dev/kvm",)


def test_limits_of_either_kind_of_cgroups() -> None:
    new = said("lxc.cgroup2.memory.max = 64M\nlxc.cgroup2.cpu.max = 50000 100000\n"
               "lxc.cgroup2.pids.max = max").limits  # fmt: skip
    old = said("lxc.cgroup.memory.limit_in_bytes = 1024\nlxc.cgroup.cpu.cfs_quota_us = 150000\n"
               "lxc.cgroup.pids.max = 7").limits  # fmt: skip

    assert new is not None
    assert old is not None
    assert (new.memory_bytes, new.cpu_cores, new.pids) == (64 << 20, 0.5, None)
    assert (old.memory_bytes, old.cpu_cores, old.pids) == (1024, 1.5, 7)


def test_environment_is_not_read() -> None:
    assert "s3cret" not in repr(said("lxc.environment = TOKEN=s3cret"))


@given(st.text())
def test_any_configuration_says_something(text: str) -> None:
    said(text)
    said("\n".join(f"lxc.{line}" for line in text.splitlines()))


@given(st.lists(st.text(), max_size=8))
def test_any_command_line_has_an_answer(words: list[str]) -> None:
    for argv in (
        words,
        ["lxc-start", *words],
        ["lxc-execute", "-n", "x", *words],
        [f"[lxc monitor] {' '.join(words)}"],
    ):
        call = lxc_call(tuple(argv))
        assert call is None or call.name


def said(text: str, call: LxcCall | None = None) -> Facts:
    return describe(config(settings(text), call or LxcCall(name="web"))).facts


def security(facts: Facts) -> Security:
    assert facts.security is not None
    return facts.security
