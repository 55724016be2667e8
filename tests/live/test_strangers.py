"""Users who lie: about whose container it is, about where its files are, about what a file is.

What they say of a container of their own is told, with their uid. Of anybody else's nothing is told
of theirs: no byte of a file that is not theirs is in an event or in the log, and nothing waits.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from ctrwatch.evidence.files import LANE
from tests.live.bed import Bed
from tests.live.runtimes import Ctr, Docker
from tests.live.watching import Event, Watching, unified

ANN = 54_322  # needs no account: to the kernel a user is a number
SECRET = "not-anns-to-tell"
HERS = "anns-own"
RUNTIME = """
import os, sys
os.mkdir(os.environ["CGROUP"])
print("made", flush=True)
sys.stdin.read()
os.rmdir(os.environ["CGROUP"])
"""
LIBC = ctypes.CDLL(None, use_errno=True)
MS_NOSUID, MS_NODEV, MNT_FORCE, MNT_DETACH = 2, 4, 1, 2


@pytest.fixture(scope="module")
def watching() -> Iterator[Watching]:
    with Watching("--wait", "0.5") as watching:
        yield watching


@pytest.fixture
def home() -> Iterator[Path]:
    """Ann's, with a bundle in it."""
    path = Path(tempfile.mkdtemp(prefix="ctrwatch-ann-"))
    path.chmod(0o755)
    os.chown(path, ANN, ANN)
    write_bundle(path / "bundle")
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def cgroup() -> Iterator[Path]:
    """Of the unified hierarchy, the part that is Ann's."""
    path = unified() / f"ctrwatch-ann-{os.getpid()}"
    path.mkdir()
    os.chown(path, ANN, ANN)
    yield path
    path.rmdir()


@pytest.fixture(scope="module")
def victim(bed: Bed, ctr: Ctr) -> Iterator[Path]:
    """The bundle of a container of root's."""
    ctr.run("victim", "sh", "-c", "sleep 600", SECRET)
    [bundle] = bed.home.glob("containerd/state/io.containerd.runtime.v2.task/default/victim")
    yield bundle
    ctr.remove("victim")


def write_bundle(path: Path, **more: object) -> Path:
    path.mkdir(parents=True)
    spec = {"ociVersion": "1.0.2", "process": {"args": [HERS], "cwd": "/"}, **more}
    (path / "config.json").write_text(json.dumps(spec))
    for each in (path, path / "config.json"):
        os.chown(each, ANN, ANN)
    return path


@contextmanager
def container(cgroup: Path, bundle: Path, name: str, *, container_id: str = "") -> Iterator[str]:
    """
    A process of Ann's, to the kernel `runc create …`, that makes the cgroup *name*.

    Yields the container's id: that, or the name.
    """
    container_id = container_id or name
    with tempfile.TemporaryDirectory() as script:
        Path(script, "create").write_text(RUNTIME)
        Path(script).chmod(0o755)
        with subprocess.Popen(
            ("/usr/bin/runc", "create", "--bundle", bundle, container_id),
            executable="/usr/bin/python3", cwd=script, user=ANN, group=ANN, extra_groups=(),
            env={"CGROUP": str(cgroup / name)}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            assert process.stdout.readline() == b"made\n"
            yield container_id


def told(watching: Watching, container_id: str, *, removed: bool = True) -> Event:
    """What is said of the container, after all of it is said."""
    if removed:
        watching.event("container_remove", container_id)
    return watching.event("container_create", container_id)


def is_silent(watching: Watching, container_id: str, *secrets: str) -> bool:
    said = json.dumps(watching.of(container_id)) + "".join(watching.errors)
    return not any(secret in said for secret in (SECRET, *secrets))


# --- her own --------------------------------------------------------------------------------


def test_her_own_bundle_is_told_with_her_uid(watching: Watching, cgroup: Path, home: Path) -> None:
    with container(cgroup, home / "bundle", "own") as own:
        event = watching.event("container_create", own)

    assert event["process"]["args"] == [HERS]
    assert (event["runtime"], event["creator"]["uid"]) == ("runc", ANN)
    assert event["evidence"]["sources"]["process"] == "bundle"


@pytest.mark.parametrize("namespace", ["moby", "default", "k8s.io"])
def test_her_bundle_does_not_speak_for_a_daemon(
    watching: Watching, cgroup: Path, home: Path, namespace: str
) -> None:
    cri = "io.kubernetes.cri."
    words = {
        f"{cri}container-type": "container",
        f"{cri}container-name": "etcd",
        f"{cri}sandbox-namespace": "kube-system",
        f"{cri}image-name": "registry.k8s.io/etcd:3",
    }
    place = home / "io.containerd.runtime.v2.task" / namespace / "lie"
    write_bundle(place, annotations=words)
    with container(cgroup, place, f"lie-to-{namespace}") as lie:
        event = watching.event("container_create", lie)

    assert event["process"]["args"] == [HERS]
    assert event["runtime"] == "unknown"
    assert (event["pod_namespace"], event["container_image"]) == ("", "")


# --- others' --------------------------------------------------------------------------------


def name_it(home: Path, victim: Path) -> Path:
    return victim


def link_the_directory(home: Path, victim: Path) -> Path:
    (home / "link").symlink_to(victim)
    return home / "link"


def link_the_file(home: Path, victim: Path) -> Path:
    (home / "bundle/config.json").unlink()
    (home / "bundle/config.json").symlink_to(victim / "config.json")
    return home / "bundle"


def link_shadow(home: Path, victim: Path) -> Path:
    (home / "bundle/config.json").unlink()
    (home / "bundle/config.json").symlink_to("/etc/shadow")
    return home / "bundle"


def through_proc(home: Path, victim: Path) -> Path:
    return Path(f"/proc/1/root/{victim}")


@pytest.mark.parametrize(
    "lie", [name_it, link_the_directory, link_the_file, link_shadow, through_proc]
)
def test_nothing_of_anothers_file_is_told(
    watching: Watching, cgroup: Path, home: Path, victim: Path, lie: Callable[[Path, Path], Path]
) -> None:
    bundle = lie(home, victim)
    with container(cgroup, bundle, lie.__name__.replace("_", "-")) as liar:
        watching.event("container_create", liar)
    event = told(watching, liar)

    assert event["evidence"]["status"] == "unverified"
    assert event["evidence"]["missing"]["process"] == "unavailable"
    assert event["creator"]["uid"] == ANN
    assert is_silent(watching, liar, *Path("/etc/shadow").read_text().splitlines())


def test_a_bundle_that_is_swapped_all_the_time(
    watching: Watching, cgroup: Path, home: Path, victim: Path
) -> None:
    """53 containers, each told while their bundle is now hers, now a link to root's."""
    place, spare, over = home / "bundle", home / "spare", threading.Event()

    def swap() -> None:
        while not over.is_set():
            place.rename(spare)
            place.symlink_to(victim)
            place.unlink()
            spare.rename(place)

    swapping = threading.Thread(target=swap)
    swapping.start()
    ids = [f"swapped-{number}" for number in range(53)]
    try:
        for name in ids:
            with container(cgroup, place, name):
                watching.event("container_create", name)
    finally:
        over.set()
        swapping.join()

    assert {tuple((told(watching, name)["process"] or {"args": ()})["args"]) for name in ids} <= {
        (HERS,),
        (),
    }
    assert all(is_silent(watching, name) for name in ids)


def test_a_bundle_that_leads_to_anothers_records(
    watching: Watching, cgroup: Path, home: Path, docker: Docker
) -> None:
    """Her bundle, in a place like Docker's, with the mounts of a container of Docker's."""
    theirs = docker.run("sleep", "600", options=["--name", "theirs", "--label", f"a={SECRET}"])
    # Two living containers are never one: hers has an id of which Docker has a record, too.
    hers = "c0ffee" + theirs[6:]
    records = docker.data_root / "containers"
    record = (records / theirs / "config.v2.json").read_text()
    (records / hers).mkdir()
    (records / hers / "config.v2.json").write_text(record.replace(theirs, hers))
    hostname = {
        "destination": "/etc/hostname", "source": f"{records}/{hers}/hostname",
        "type": "bind", "options": ["rbind"],
    }  # fmt: skip
    place = home / "io.containerd.runtime.v2.task/moby" / hers
    write_bundle(place, mounts=[hostname])
    try:
        with container(cgroup, place, f"docker-{hers}.scope", container_id=hers):
            event = watching.event("container_create", hers)
    finally:
        shutil.rmtree(records / hers)
        docker.remove(theirs)

    assert SECRET in record
    [mount] = event["security"]["mounts"]
    assert mount["source"].startswith(str(docker.data_root))
    assert event["container_name"] == ""
    assert is_silent(watching, hers)


# --- files that are none --------------------------------------------------------------------


@contextmanager
def a_fifo(path: Path) -> Iterator[None]:
    os.mkfifo(path)
    yield


@contextmanager
def a_fifo_with_a_writer(path: Path) -> Iterator[None]:
    os.mkfifo(path)
    with path.open("r+b", buffering=0) as file:
        file.write(SECRET.encode())
        yield


@contextmanager
def a_socket(path: Path) -> Iterator[None]:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        yield


@contextmanager
def a_device(path: Path) -> Iterator[None]:
    path.symlink_to("/dev/zero")
    yield


@contextmanager
def a_terabyte(path: Path) -> Iterator[None]:
    path.touch()
    os.truncate(path, 1 << 40)
    yield


@contextmanager
def one_that_grows(path: Path) -> Iterator[None]:
    path.touch()
    over = threading.Event()

    def grow() -> None:
        with path.open("wb", buffering=0) as file:
            while not over.is_set() and file.tell() < 256 << 20:
                file.write(b"[" * 65536)

    growing = threading.Thread(target=grow)
    growing.start()
    try:
        yield
    finally:
        over.set()
        growing.join()


@pytest.mark.parametrize(
    "make", [a_fifo, a_fifo_with_a_writer, a_socket, a_device, a_terabyte, one_that_grows]
)
def test_what_is_no_file_is_a_reason_in_time(
    watching: Watching, cgroup: Path, home: Path, make: Callable[[Path], ExitStack]
) -> None:
    config = home / "bundle/config.json"
    config.unlink()
    with make(config), ExitStack() as alive:
        if not config.is_symlink():
            os.chown(config, ANN, ANN)
        name = make.__name__.replace("_", "-")
        stranger = alive.enter_context(container(cgroup, config.parent, name))
        event = watching.event("container_create", stranger)

    assert event["evidence"]["status"] == "unverified"
    assert event["evidence"]["missing"]["process"] == "unavailable"
    assert event["evidence"]["after_ms"] < 600
    assert is_silent(watching, stranger)


# --- what hangs -----------------------------------------------------------------------------


@contextmanager
def dead_fuse(place: Path) -> Iterator[None]:
    """A FUSE mount of Ann's whose daemon answers nothing, as one that is stopped does."""
    place.mkdir()
    device = os.open("/dev/fuse", os.O_RDWR)
    options = f"fd={device},rootmode=40000,user_id={ANN},group_id={ANN},allow_other"
    flags = MS_NOSUID | MS_NODEV
    assert LIBC.mount(b"dead", bytes(place), b"fuse", flags, options.encode()) == 0
    try:
        yield
    finally:
        LIBC.umount2(bytes(place), MNT_FORCE | MNT_DETACH)
        os.close(device)
        place.rmdir()


def test_a_users_dead_file_system_holds_up_nobody_else(ctr: Ctr, cgroup: Path, home: Path) -> None:
    """41 containers whose bundles can't be read hang, and go on hanging; others are on time."""
    with Watching("--wait", "0.5") as watching:
        threads = len(os.listdir(f"/proc/{watching.process.pid}/task"))
        with ExitStack() as alive:
            alive.enter_context(dead_fuse(home / "dead"))
            hanging = [
                alive.enter_context(container(cgroup, home / f"dead/{number}", f"hanging-{number}"))
                for number in range(41)
            ]
            born = [ctr.run(f"beside-{number}", "true") for number in range(11)]
            beside = [watching.event("container_create", each) for each in born]
            late = [watching.event("container_create", each) for each in hanging]
            more = len(os.listdir(f"/proc/{watching.process.pid}/task")) - threads
            for each in born:
                ctr.remove(each)
            # It says its last word. The kernel lets the process go when the file system does:
            # a look-up may hang in a way that no signal ends.
            watching.process.send_signal(signal.SIGTERM)
            watching.until(lambda: " seen, " in "".join(watching.errors), "its last line")
        code = watching.stop()

    assert {event["evidence"]["status"] for event in beside} == {"complete"}
    assert {event["evidence"]["sources"]["security"] for event in beside} == {"bundle"}
    assert {event["evidence"]["status"] for event in late} == {"unverified"}
    assert {event["evidence"]["missing"]["process"] for event in late} <= {
        "unavailable",
        "deadline",
    }
    assert more <= 2 * LANE  # hers, and those of the others' births
    assert code == 0
