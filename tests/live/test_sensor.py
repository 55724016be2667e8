"""The BPF program against the real kernel: what it must tell apart."""

from __future__ import annotations

import subprocess
from pathlib import Path

from ctrwatch.model import Kind, RawEvent
from ctrwatch.sensor.journal import read_journal
from tests.live.watching import Watching, unified

# As an OCI runtime does: its child enters the new cgroup, executes once more outside, then
# leaves the host's mounts and executes the container's program.
RUNTIME = """
import os, sys
os.mkdir(os.environ["CGROUP"])
entered, say = os.pipe()
child = os.fork()
if child == 0:
    os.read(entered, 1)
    os.execv("/bin/sh", ["sh", "-c", "exec /usr/bin/unshare --mount /bin/sleep 600"])
with open(os.environ["CGROUP"] + "/cgroup.procs", "w") as procs:
    procs.write(str(child))
os.write(say, b"!")
print(child, flush=True)
sys.stdin.read()
os.kill(child, 9)
os.waitpid(child, 0)
os.rmdir(os.environ["CGROUP"])
"""


def test_the_first_instruction_is_none_of_the_runtimes_own(tmp_path: Path) -> None:
    container, record = "d3" * 32, tmp_path / "record.jsonl"
    script = tmp_path / "runtime.py"
    script.write_text(RUNTIME)
    cgroup = unified() / f"docker-{container}.scope"
    with (
        Watching("--wait", "0.2", "--no-existing", "--record", str(record)) as watching,
        subprocess.Popen(
            ("/usr/bin/python3", script), env={"CGROUP": str(cgroup)}, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        ) as runtime,
    ):  # fmt: skip
        assert runtime.stdout is not None
        first = int(runtime.stdout.readline())
        started = watching.event("container_start", container)
        runtime.communicate()
        watching.event("container_remove", container)

    assert started["init"]["pid"] == first
    assert executed(record) == ["/bin/sleep"]


def executed(record: Path) -> list[str]:
    _, inputs = read_journal(record)
    return [item.path for item in inputs if isinstance(item, RawEvent) and item.kind is Kind.EXEC]
