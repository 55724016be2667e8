"""systemd-nspawn's command lines and settings: names, and what a machine may do."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from ctrwatch.core.nspawn import Wishes, config, nspawn_call, user, wishes
from ctrwatch.core.spec import describe
from ctrwatch.model import Facts, Mount, Security


@pytest.mark.parametrize(
    ("line", "name", "directory"),
    [
        pytest.param("-D /srv/db1", "db1", "/srv/db1", id="of-the-directory"),
        pytest.param("-D /srv/db1 -M web", "web", "/srv/db1", id="given"),
        pytest.param("--machine=web", "web", "/var/lib/machines/web", id="its-place-by-its-name"),
        pytest.param("-i /srv/db1.raw", "db1", "", id="of-the-image"),
        pytest.param("-xD /srv/db1", "", "/srv/db1", id="ephemeral-a-random-one"),
        pytest.param("-D /", "", "/", id="the-hosts-root"),
    ],
)
def test_what_a_machine_is_called(line: str, name: str, directory: str) -> None:
    call = nspawn_call(["systemd-nspawn", *line.split()])

    assert call is not None
    assert (call.name, call.directory) == (name, directory)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("systemd-run -M web sh", id="another-program"),
        pytest.param("systemd-nspawn -M we/b", id="a-name-that-is-none"),
    ],
)
def test_who_makes_none(line: str) -> None:
    assert nspawn_call(line.split()) is None


def test_the_first_word_ends_the_options() -> None:
    call = nspawn_call(["systemd-nspawn", "-qM", "web", "sh", "-c", "--boot"])

    assert call is not None
    assert call.wishes.command == ("sh", "-c", "--boot")
    assert call.wishes.boot is None


def test_by_itself_it_has_the_hosts_network_and_is_not_privileged() -> None:
    security = of(Wishes())

    assert (security.host_network, security.host_pid, security.host_ipc) == (True, False, False)
    assert security.privileged is False
    assert security.seccomp == "filtered"
    assert "CAP_SYS_ADMIN" in security.capabilities
    assert "CAP_SYS_MODULE" not in security.capabilities
    assert of(asked("--capability=all")).privileged is False  # its devices are a closed list


def test_capabilities_and_networks() -> None:
    security = of(asked("-n --capability=CAP_SYSLOG,CAP_SYS_TIME --drop-capability=CAP_KILL"))

    assert {"CAP_SYSLOG", "CAP_SYS_TIME", "CAP_NET_ADMIN"} <= set(security.capabilities)
    assert "CAP_KILL" not in security.capabilities
    assert security.host_network is False
    assert of(asked("--network-namespace-path=/run/x")).host_network is None
    assert of(asked("--drop-capability=all")).capabilities == ()


def test_binds() -> None:
    security = of(asked(r"--bind=/srv --bind-ro=+/a\:b:/c:norbind --bind=/dev/kvm"))

    assert security.mounts == (
        Mount(source="/srv", destination="/srv", type="bind", read_only=False),
        Mount(source="/dev/kvm", destination="/dev/kvm", type="bind", read_only=False),
        Mount(source="/a:b", destination="/c", type="bind", read_only=True),
    )
    assert security.devices == ("/dev/kvm",)


def test_limits_are_its_scopes_properties() -> None:
    line = "--property=MemoryMax=1G --property=CPUQuota=150% --property=TasksMax=64"
    limits = said(asked(line)).limits

    assert limits is not None
    assert (limits.memory_bytes, limits.cpu_cores, limits.pids) == (1 << 30, 1.5, 64)


def test_settings_fill_what_the_command_line_leaves_open() -> None:
    line = asked("-u alice --bind=/a")
    file = wishes("[Exec]\nBoot=yes\nUser=bob\n[Files]\nBind=/b\n[Network]\nZone=home\n")

    first, second = line.over(file), file.over(line)
    assert (first.user, second.user) == ("alice", "bob")
    assert first.boot is first.private_network is True
    assert {mount.source for mount in first.mounts} == {"/a", "/b"}


def test_a_file_that_lies_beside_the_root_asks_for_nothing_privileged() -> None:
    file = wishes("[Exec]\nBoot=yes\nCapability=all\n[Files]\nBind=/\n")

    assert file.harmless() == Wishes(boot=True)


def test_a_users_number_is_only_known_of_root() -> None:
    assert (user(Wishes()), user(Wishes(user="root")), user(Wishes(user="web"))) == (
        "0:0",
        "0:0",
        "",
    )


def test_environment_is_not_read() -> None:
    assert "s3cret" not in repr(asked("--setenv=TOKEN=s3cret -E A=s3cret sh"))
    assert "s3cret" not in repr(wishes("[Exec]\nEnvironment=TOKEN=s3cret\n"))


@given(st.text())
def test_any_settings_file_says_something(text: str) -> None:
    said(wishes(text))


@given(
    st.lists(st.text() | st.sampled_from(["-D", "--bind", "-M", "--property", "-U"]), max_size=8)
)
def test_any_command_line_has_an_answer(words: list[str]) -> None:
    if (call := nspawn_call(["systemd-nspawn", *words])) is not None:
        said(call.wishes)


def asked(line: str) -> Wishes:
    call = nspawn_call(["systemd-nspawn", "-M", "web", *line.split()])
    assert call is not None
    return call.wishes


def said(wishes: Wishes) -> Facts:
    return describe(config(wishes)).facts


def of(wishes: Wishes) -> Security:
    security = said(wishes).security
    assert security is not None
    return security
