"""The sources "lxc" and "nspawn": whom they believe, and which files they read."""

import os
from pathlib import Path

import pytest

from ctrwatch.evidence.files import Readers
from ctrwatch.evidence.lxc import Lxc
from ctrwatch.evidence.nspawn import Nspawn
from ctrwatch.model import Facts, Runtime, Task
from tests.contract.data import found, is_not_found, subject, why

OUTSIDE, INSIDE = 4026531841, 4026532200  # mount namespaces
STRANGER = 4711
FIRST = Task(pid=0, ppid=0, mnt_ns=INSIDE)  # has mounts of its own; is in no proc


class Process:
    """A proc with one process and its child, as of a container that was there before."""

    def __init__(self, root: Path, *words: str) -> None:
        self.root = root
        for pid, ppid, namespace in (("self", 1, 1), ("10", 1, 1), ("11", 10, 2)):
            (root / pid / "ns").mkdir(parents=True)
            place = root / f"namespace-{namespace}"
            place.touch()
            os.link(place, root / pid / "ns/mnt")
            uid = os.getuid()
            (root / pid / "status").write_text(f"Name:\tx\nPPid:\t{ppid}\nUid:\t{uid}\t0\t0\t0\n")
            (root / pid / "cmdline").write_text("".join(f"{word}\0" for word in words))


@pytest.fixture
def lxc(readers: Readers, tmp_path: Path) -> Lxc:
    return Lxc(readers, str(tmp_path / "proc"))


def monitor(lxcpath: Path, *, uid: int | None = None) -> Task:
    owner = os.getuid() if uid is None else uid
    return Task(pid=9, ppid=1, uid=owner, argv=(f"[lxc monitor] {lxcpath} web",), mnt_ns=OUTSIDE)


def container(lxcpath: Path, *lines: str) -> Path:
    (lxcpath / "web").mkdir()
    config = lxcpath / "web/config"
    config.write_text("\n".join(lines))
    return config


async def test_the_configuration_by_the_monitors_title(lxc: Lxc, tmp_path: Path) -> None:
    container(tmp_path, "lxc.init.cmd = /bin/web --port 80")
    facts = found(await lxc.ask(subject("web", creator=monitor(tmp_path), init=FIRST)))

    assert (facts.runtime, facts.name) == (Runtime.LXC, "web")
    assert facts.process is not None
    assert facts.process.args == ("/bin/web", "--port", "80")


async def test_the_monitor_of_one_that_was_there_before(lxc: Lxc, tmp_path: Path) -> None:
    container(tmp_path, "lxc.init.cmd = /bin/web")
    (tmp_path / "proc").mkdir()
    Process(tmp_path / "proc", f"[lxc monitor] {tmp_path} web")
    facts = found(await lxc.ask(subject("web", facts=Facts(init_pid=11))))

    assert facts.name == "web"
    assert facts.process is not None


async def test_includes_are_followed_and_bounded(lxc: Lxc, tmp_path: Path) -> None:
    config = container(
        tmp_path, f"lxc.include = {tmp_path}/more", f"lxc.include = {tmp_path}/web/config"
    )
    (tmp_path / "more").mkdir()
    (tmp_path / "more/a.conf").write_text("lxc.init.cwd = /srv")
    (tmp_path / "more/notes").write_text("lxc.init.cwd = /nowhere")
    facts = found(await lxc.ask(subject("web", creator=monitor(tmp_path), init=FIRST)))

    assert config.exists()
    assert facts.process is not None
    assert facts.process.cwd == "/srv"


async def test_anothers_include_and_a_link_say_nothing(lxc: Lxc, tmp_path: Path) -> None:
    container(tmp_path, "lxc.include = /etc/hostname", f"lxc.include = {tmp_path}/link.conf")
    (tmp_path / "secret").write_text("lxc.init.cwd = /secret")
    (tmp_path / "link.conf").symlink_to(tmp_path / "secret")
    facts = found(await lxc.ask(subject("web", creator=monitor(tmp_path), init=FIRST)))

    assert facts.process is not None
    assert facts.process.cwd == "/"


async def test_a_users_title_is_no_evidence_without_mounts_of_its_own(
    lxc: Lxc, tmp_path: Path
) -> None:
    container(tmp_path, "lxc.init.cmd = /bin/liar")
    liar = monitor(tmp_path, uid=STRANGER)

    assert is_not_found(await lxc.ask(subject("web", creator=liar, uid=STRANGER)))


async def test_a_users_title_reads_nobody_elses_configuration(lxc: Lxc, tmp_path: Path) -> None:
    container(tmp_path, "lxc.init.cmd = /bin/secret")
    liar = monitor(tmp_path, uid=STRANGER)
    facts = found(await lxc.ask(subject("web", creator=liar, init=FIRST, uid=STRANGER)))

    assert facts.process is None


async def test_mounts_of_its_own_are_evidence_and_name_no_runtime(lxc: Lxc) -> None:
    unknown = Task(pid=9, ppid=1, argv=("python3", "own.py"), mnt_ns=OUTSIDE)

    assert found(await lxc.ask(subject("web", creator=unknown, init=FIRST))) == Facts()
    assert is_not_found(await lxc.ask(subject("web", creator=unknown)))


@pytest.mark.skipif(os.getuid() != 0, reason="root's monitor is believed before a task enters")
async def test_a_configuration_that_is_a_fifo(lxc: Lxc, tmp_path: Path) -> None:
    (tmp_path / "web").mkdir()
    os.mkfifo(tmp_path / "web/config")

    assert "not a regular file" in why(await lxc.ask(subject("web", creator=monitor(tmp_path))))


async def test_nspawns_own_words(readers: Readers, tmp_path: Path) -> None:
    argv = ("systemd-nspawn", "--settings=no", "-M", "db1", "-b", "-u", "web")
    creator = Task(pid=9, ppid=1, uid=os.getuid(), argv=argv, mnt_ns=OUTSIDE)
    nspawn = Nspawn(readers, str(tmp_path))
    facts = found(await nspawn.ask(subject("db1", creator=creator, init=FIRST)))

    assert (facts.runtime, facts.name) == (Runtime.NSPAWN, "db1")
    assert facts.process is not None
    assert (facts.process.args, facts.process.user) == (("init",), "web")
    assert facts.security is not None
    assert facts.security.user == ""


async def test_a_user_who_calls_his_shell_systemd_nspawn(readers: Readers, tmp_path: Path) -> None:
    liar = Task(pid=9, ppid=1, uid=STRANGER, argv=("systemd-nspawn", "-M", "db1"), mnt_ns=OUTSIDE)

    assert is_not_found(await Nspawn(readers, str(tmp_path)).ask(subject("db1", creator=liar)))
