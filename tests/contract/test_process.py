"""The sources "creator" and "init" against a /proc of their own, made as Linux makes it."""

import os
from pathlib import Path

import pytest

from ctrwatch.evidence.files import Readers
from ctrwatch.evidence.process import Creator, Init
from ctrwatch.model import Facts, Leads, Security, Task
from tests.contract.data import found, is_not_found, subject

ID = "ab" * 32
RUNC = f"runc --root /run/r --log /l create --bundle /run/bundles/{ID} --pid-file /p {ID}"
SHIM = f"/usr/bin/containerd-shim-runc-v2 -namespace moby -id {ID} -address /run/c.sock"
CONMON = f"/usr/bin/conmon --api-version 1 -c {ID} -u {ID} -r /usr/bin/crun -b /storage/{ID}"
OURS, THEIRS = 1, 2  # mount namespaces


class Proc:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.namespaces = root / "namespaces"
        self.namespaces.mkdir()
        for number in (OURS, THEIRS):
            (self.namespaces / str(number)).touch()
        self.add("self", 1)

    def add(
        self,
        pid: int | str,
        ppid: int,
        command: str = "",
        *,
        mnt: int = OURS,
        cwd: str = "/",
        comm: str = "some (name) 3",
        inner: tuple[int, ...] = (),
        started: int = 100,
        uid: int = 0,
    ) -> None:
        directory = self.root / str(pid)
        (directory / "ns").mkdir(parents=True)
        words = "".join(f"{word}\0" for word in command.split())
        (directory / "cmdline").write_text(words)
        (directory / "comm").write_text(f"{comm}\n")
        fields = ["S", str(ppid), *["0"] * 17, str(started), "0"]
        (directory / "stat").write_text(f"{pid} ({comm}) {' '.join(fields)}\n")
        numbers = "\t".join(map(str, (7 if pid == "self" else pid, *inner)))
        (directory / "status").write_text(
            f"Name:\tx\nPPid:\t{ppid}\nUid:\t{uid}\t0\t0\t0\nNSpid:\t{numbers}\nNSpgid:\t0\n"
        )
        (directory / "cwd").symlink_to(cwd)
        os.link(self.namespaces / str(mnt), directory / "ns/mnt")

    def inode(self, number: int) -> int:
        return (self.namespaces / str(number)).stat().st_ino


@pytest.fixture
def proc(tmp_path: Path) -> Proc:
    return Proc(tmp_path)


@pytest.fixture
def creator(proc: Proc, readers: Readers) -> Creator:
    return Creator(readers, str(proc.root))


def runc(command: str = RUNC, *, mnt_ns: int = 0, cut: bool = False) -> Task:
    argv = tuple(command.split())
    return Task(pid=20, ppid=10, comm="runc", argv=argv, argv_cut=cut, mnt_ns=mnt_ns)


async def test_creators_command_line_needs_no_proc(creator: Creator) -> None:
    facts = found(await creator.ask(subject(ID, creator=runc())))
    assert facts.leads == Leads(oci_runtime="runc", bundle=f"/run/bundles/{ID}")


async def test_shim_is_the_parent(creator: Creator, proc: Proc) -> None:
    proc.add(10, 1, SHIM)
    proc.add(20, 10, RUNC)
    assert found(await creator.ask(subject(ID, creator=runc()))).leads == Leads(
        oci_runtime="runc",
        bundle=f"/run/bundles/{ID}",
        containerd="/run/c.sock",
        namespace="moby",
    )


@pytest.mark.parametrize("words", [SHIM, CONMON, RUNC])
async def test_another_users_words_are_not_believed(
    creator: Creator, proc: Proc, words: str
) -> None:
    """`sudo` leaves the container's first process to a parent that a user may call as he likes."""
    proc.add(30, 10, "sleep 60", mnt=THEIRS, inner=(1,))
    proc.add(10, 1, words, uid=1000, cwd=f"/run/tasks/moby/{ID}")
    init = Task(pid=30, ppid=10)
    there, born = Facts(init_pid=30), Task(pid=1, ppid=0, comm="systemd")
    assert is_not_found(await creator.ask(subject(ID, uid=0, facts=there)))
    assert is_not_found(await creator.ask(subject(ID, uid=0, creator=born, init=init)))
    assert is_not_found(await creator.ask(subject(ID, uid=1001, creator=born, init=init)))
    assert found(await creator.ask(subject(ID, uid=1000, creator=born, init=init))).leads.bundle


async def test_creator_has_ended_and_the_kernel_kept_its_namespace(
    creator: Creator, proc: Proc
) -> None:
    task = runc(mnt_ns=proc.inode(OURS))
    assert found(await creator.ask(subject(ID, creator=task))).leads.bundle == f"/run/bundles/{ID}"


@pytest.mark.parametrize(
    "bundle", ["", "--bundle=", "--bundle=bundles/x", "--bundle=./bundles/x/."]
)
async def test_bundle_relative_to_the_working_directory(
    creator: Creator, proc: Proc, bundle: str
) -> None:
    proc.add(20, 10, cwd="/home/me")
    facts = found(await creator.ask(subject("x", creator=runc(f"runc run {bundle} x"))))
    relative = bundle.removeprefix("--bundle=")
    assert facts.leads.bundle == ("/home/me/bundles/x" if relative else "/home/me")


async def test_systemd_driver_leads_through_the_first_task(creator: Creator, proc: Proc) -> None:
    proc.add(10, 1, SHIM)
    proc.add(20, 10, RUNC)
    systemd = Task(pid=1, ppid=0, comm="systemd", argv=("/sbin/init",))
    init = Task(pid=21, ppid=20, comm="runc")
    leads = found(await creator.ask(subject(ID, creator=systemd, init=init))).leads
    assert (leads.bundle, leads.namespace) == (f"/run/bundles/{ID}", "moby")
    assert is_not_found(await creator.ask(subject(ID, creator=systemd)))


async def test_long_command_line_is_read_whole(creator: Creator, proc: Proc) -> None:
    proc.add(10, 1)
    proc.add(20, 10, RUNC)
    cut = runc(RUNC[: RUNC.index("--bundle") + 12], cut=True)
    assert found(await creator.ask(subject(ID, creator=cut))).leads.bundle == f"/run/bundles/{ID}"


@pytest.mark.parametrize("alive", [10, 20])
async def test_another_mount_namespace_is_entered_through_a_process_of_it(
    creator: Creator, proc: Proc, alive: int
) -> None:
    proc.add(alive, 1, mnt=THEIRS)
    task = runc(RUNC.replace("/run/bundles", "/run/../../bundles"), mnt_ns=proc.inode(THEIRS))
    leads = found(await creator.ask(subject(ID, creator=task))).leads
    assert leads.bundle == f"/run/../../bundles/{ID}"  # files.py keeps it within that root
    assert leads.root == f"{proc.root}/{alive}/root"


async def test_the_hosts_files_are_reached_from_a_service_with_a_view_of_its_own(
    creator: Creator, proc: Proc
) -> None:
    proc.add(1, 0, mnt=THEIRS)  # and the OCI runtime has ended
    leads = found(await creator.ask(subject(ID, creator=runc(mnt_ns=proc.inode(THEIRS))))).leads
    assert (leads.bundle, leads.root) == (f"/run/bundles/{ID}", f"{proc.root}/1/root")


async def test_another_mount_namespace_that_nobody_is_in_any_more(
    creator: Creator, proc: Proc
) -> None:
    proc.add(10, 1, mnt=OURS)
    task = runc(mnt_ns=proc.inode(THEIRS))
    assert found(await creator.ask(subject(ID, creator=task))).leads.bundle == ""


@pytest.mark.parametrize(
    "command", ["mkdir /sys/fs/cgroup/x", "runc state x", "", "bash -c runc", "runc create"]
)
async def test_other_programs_are_no_makers(creator: Creator, proc: Proc, command: str) -> None:
    proc.add(20, 10, command)
    assert is_not_found(await creator.ask(subject(ID, creator=runc(command))))


async def test_container_that_was_there_has_a_monitor(creator: Creator, proc: Proc) -> None:
    proc.add(30, 10, "sleep 60", mnt=THEIRS, inner=(1,))
    proc.add(10, 1, CONMON)
    leads = found(await creator.ask(subject(ID, facts=Facts(init_pid=30)))).leads
    assert leads == Leads(oci_runtime="crun", bundle=f"/storage/{ID}")
    assert is_not_found(await creator.ask(subject("cd" * 32, facts=Facts(init_pid=30))))


async def test_pods_container_has_the_sandboxs_shim(creator: Creator, proc: Proc) -> None:
    proc.add(30, 10, "sleep 60", mnt=THEIRS, inner=(1,))
    proc.add(10, 1, SHIM, cwd=f"/run/tasks/moby/{ID}")
    leads = found(await creator.ask(subject("cd" * 32, facts=Facts(init_pid=30)))).leads
    assert leads.bundle == "/run/tasks/moby/" + "cd" * 32
    assert (leads.containerd, leads.namespace) == ("/run/c.sock", "moby")


async def test_absurd_command_line_is_none(creator: Creator, proc: Proc) -> None:
    proc.add(20, 10)
    with (proc.root / "20/cmdline").open("wb") as file:
        file.write(b"\xff\0" * (1 << 20))
    systemd = Task(pid=1, ppid=0, comm="systemd")
    init = Task(pid=21, ppid=20)
    assert is_not_found(await creator.ask(subject(ID, creator=systemd, init=init)))


# --- init -----------------------------------------------------------------------------


class Cgroup:
    def __init__(self, proc: Proc) -> None:
        self.directory = proc.root / "cgroup"
        self.source = Init(str(proc.root), lambda _key, _path: str(self.directory))

    def hold(self, *pids: int, child: str = "") -> None:
        (self.directory / child).mkdir(parents=True, exist_ok=True)
        (self.directory / child / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))


@pytest.fixture
def held(proc: Proc) -> Cgroup:
    return Cgroup(proc)


BORN = Task(pid=20, ppid=10)


async def test_first_process_of_its_pid_namespace(held: Cgroup, proc: Proc) -> None:
    proc.add(31, 30, inner=(7,), mnt=THEIRS, started=50)
    proc.add(30, 10, inner=(1,), mnt=THEIRS)
    proc.add(32, 30, inner=(9, 1), mnt=THEIRS)  # a container in the container
    held.hold(32, 31, 30)
    assert found(await held.source.ask(subject(ID, creator=BORN))).init_pid == 30


@pytest.mark.parametrize("child", ["container", "init", "init.scope"])
async def test_child_cgroup_that_crun_or_systemd_made(held: Cgroup, proc: Proc, child: str) -> None:
    proc.add(30, 10, inner=(1,), mnt=THEIRS)
    held.hold()
    held.hold(30, child=child)
    assert found(await held.source.ask(subject(ID, creator=BORN))).init_pid == 30


async def test_runc_on_its_way_is_not_the_container(held: Cgroup, proc: Proc) -> None:
    proc.add(30, 10, comm="runc:[1:CHILD]", mnt=OURS)
    held.hold(30)
    host_pid = Facts(security=Security(host_pid=True))
    assert is_not_found(await held.source.ask(subject(ID, creator=BORN)))
    assert is_not_found(await held.source.ask(subject(ID, creator=BORN, facts=host_pid)))


async def test_hosts_pid_namespace(held: Cgroup, proc: Proc) -> None:
    proc.add(30, 10, mnt=THEIRS, started=2)
    proc.add(29, 30, mnt=THEIRS, started=5)
    proc.add(28, 10, mnt=OURS, started=1)  # docker exec, on its way in
    held.hold(28, 29, 30)
    host_pid = Facts(security=Security(host_pid=True))
    assert found(await held.source.ask(subject(ID, creator=BORN, facts=host_pid))).init_pid == 30
    assert found(await held.source.ask(subject(ID))).init_pid == 30
    assert is_not_found(await held.source.ask(subject(ID, creator=BORN)))


async def test_nobody_there(held: Cgroup, proc: Proc) -> None:
    assert is_not_found(await held.source.ask(subject(ID)))  # the directory has gone
    held.hold()
    assert is_not_found(await held.source.ask(subject(ID)))
    held.hold(99)  # the process has gone
    assert is_not_found(await held.source.ask(subject(ID)))


async def test_hierarchy_that_is_not_mounted(proc: Proc) -> None:
    source = Init(str(proc.root), lambda _key, _path: None)
    assert is_not_found(await source.ask(subject(ID)))
