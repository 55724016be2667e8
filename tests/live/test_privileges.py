"""What `ctrwatch events` keeps of root's privileges, and what it does with them: it reads."""

from __future__ import annotations

import os
import re
import shutil
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from ctrwatch.privileges import NUMBERS, READING
from tests.contract.data import DATA, ids
from tests.live.runtimes import Ctr, Docker
from tests.live.test_lxc import NOBODY, as_nobody, delegated
from tests.live.waiting import until
from tests.live.watching import Watching

KEPT = {"ebpf": READING, "fanotify": READING | {"CAP_NET_ADMIN"}}
# Calls that change a file system, listen, or start another program.
TRACED = (
    "open,openat,openat2,creat,rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,"
    "unlinkat,mkdir,mkdirat,rmdir,mknod,mknodat,chmod,fchmod,fchmodat,chown,fchown,lchown,"
    "fchownat,truncate,ftruncate,setxattr,lsetxattr,fsetxattr,utimensat,mount,bind,listen,connect,"
    "execve,execveat,kill,tkill,tgkill,ptrace,process_vm_writev,pidfd_send_signal"
)
HARMLESS = re.compile(
    r"(open(at2?)?\((?!.*O_(WRONLY|RDWR|CREAT|TRUNC))|connect\(\d+, \{sa_family=AF_UNIX)"
)


@pytest.mark.parametrize("sensor", KEPT)
def test_every_thread_keeps_what_reading_takes(docker: Docker, sensor: str) -> None:
    with Watching("--sensor", sensor) as watching:
        container = docker.run("sleep", "600")
        event = watching.event("container_create", container)
        threads = list(Path(f"/proc/{watching.process.pid}/task").iterdir())
        states = [_status(thread) for thread in threads]
        docker.remove(container)

    assert event["evidence"]["status"] == "complete"
    assert len(threads) > 1  # the output's, those that read files
    mask = sum(1 << NUMBERS[name] for name in KEPT[sensor])
    for state in states:
        assert [int(state[f"Cap{which}"], 16) for which in ("Eff", "Prm", "Bnd")] == [mask] * 3
        assert [int(state[f"Cap{which}"], 16) for which in ("Inh", "Amb")] == [0, 0]
        assert state["NoNewPrivs"] == "1"


def test_a_users_own_daemon_is_asked_and_only_by_get() -> None:
    """Its socket is that user's alone: connecting to it takes CAP_DAC_OVERRIDE."""
    container = ids("docker")["by-registry"]
    with _engine(Path(f"/run/user/{NOBODY}")) as asked, Watching() as watching, delegated() as own:
        as_nobody("mkdir", own / f"docker-{container}.scope")
        event = watching.event("container_create", container)

    assert (event["runtime"], event["container_name"]) == ("docker", "by-registry")
    assert event["evidence"]["sources"]["container_name"] == "docker"
    # One that was put out before it had asked anything says nothing.
    assert {line.split()[0] for line in asked if line} == {"GET"}
    assert any("/containers/json" in line for line in asked)


def test_it_changes_nothing_but_its_output(ctr: Ctr, docker: Docker, tmp_path: Path) -> None:
    trace, output = tmp_path / "trace", tmp_path / "events.jsonl"
    strace = ("strace", "-D", "-f", "--seccomp-bpf", "-e", f"trace={TRACED}", "-o", trace)
    options = ("--output", str(output), "--socket", f"docker={docker.socket}")
    with Watching(*options, within=tuple(map(str, strace))) as watching:
        containers = [docker.run("sleep", "600"), ctr.run("traced", "sleep", "600")]
        for container in containers:
            until(
                f"the birth of {container}",
                lambda container=container: f'"{container}"' in output.read_text(),  # type: ignore[misc]
            )
        sockets = _sockets(watching.process.pid)
        docker.remove(containers[0])
        ctr.remove("traced")
        assert watching.stop() == 0
    until("strace has ended", lambda: "+++ exited with 0" in trace.read_text())

    calls = [line.split(maxsplit=1)[1] for line in trace.read_text().splitlines()]
    begun = [call for call in calls if "resumed>" not in call and call[0] not in "+-"]
    rest = [call for call in begun if not HARMLESS.match(call)]
    executed, *rest = rest
    assert executed.startswith("execve(")
    assert any("config.json" in call for call in begun)  # it looked at what it traced
    assert [call for call in rest if f'"{output}", O_WRONLY|O_CREAT|O_APPEND' not in call] == []
    assert not sockets & _listening()


def _status(process: Path) -> dict[str, str]:
    lines = (line.split(":", 1) for line in (process / "status").read_text().splitlines())
    return {key: value.strip() for key, value in lines}


def _sockets(pid: int) -> set[str]:
    links = [os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()]
    return {link[8:-1] for link in links if link.startswith("socket:")}


def _listening() -> set[str]:
    """Inodes of this host's sockets that take connections: proc(5), proc_net(5)."""
    unix = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
    found = {words[6] for words in unix if int(words[3], 16) & 0x10000}  # __SO_ACCEPTCON
    for name in ("tcp", "tcp6", "udp", "udp6"):
        table = Path("/proc/net", name)
        lines = table.read_text().splitlines()[1:] if table.exists() else []
        found |= {line.split()[9] for line in lines if line.split()[3] in ("0A", "07")}
    return found


@contextmanager
def _engine(directory: Path) -> Iterator[list[str]]:
    """A user's Docker Engine that plays recorded answers; the request lines it got."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            asked.append(self.rfile.readline().decode())
            name = "image" if "/images/" in asked[-1] else "containers"
            body = (DATA / f"docker/engine/{name}.json").read_bytes()
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(body)}\r\n\r\n"
            self.wfile.write(head.encode() + body)
            self.close_connection = True

    directory.mkdir(mode=0o700, parents=True)
    try:
        address = directory / "docker.sock"
        with socketserver.ThreadingUnixStreamServer(str(address), Handler) as server:
            for path in (directory, address):
                os.chown(path, NOBODY, NOBODY)
            address.chmod(0o600)
            thread = threading.Thread(target=server.serve_forever)
            thread.start()
            yield asked
            server.shutdown()
            thread.join()
    finally:
        shutil.rmtree(directory)
