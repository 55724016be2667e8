"""Starting and ending the daemons of a test bed, and asking their clients."""

import json
import os
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/bin:/bin"


class BedError(Exception):
    """A runtime does not do what the bed needs; the message has its own words."""


def start_containerd(
    home: Path, stack: ExitStack, cri: dict[str, Any] | None = None, *, systemd: bool = False
) -> Path:
    """Returns its socket. *systemd*: it makes the cgroups of the CRI's containers."""
    home.mkdir()
    address = home / "containerd.sock"
    lines = ["version = 2", f'root = "{home}/root"', f'state = "{home}/state"']
    if cri is None:
        lines += ['disabled_plugins = ["io.containerd.grpc.v1.cri"]']
    lines += ["[grpc]", f'address = "{address}"']
    lines += ['[plugins."io.containerd.internal.v1.opt"]', f'path = "{home}/opt"']
    if cri is not None:
        lines += ['[plugins."io.containerd.grpc.v1.cri"]']
        lines += [f"{key} = {json.dumps(value)}" for key, value in cri.items()]
        runc = '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc'
        lines += [f"{runc}]", 'runtime_type = "io.containerd.runc.v2"']
        lines += [f"{runc}.options]", f"SystemdCgroup = {json.dumps(systemd)}"]
    config = home / "config.toml"
    config.write_text("\n".join(lines))
    start_daemon(home, stack, "containerd", "--config", config)
    return address


def start_daemon(home: Path, stack: ExitStack, *words: str | Path) -> None:
    """Returns when the daemon says that it is ready, as it would say to systemd: sd_notify(3)."""
    address = home / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        ready.bind(str(address))
        ready.settimeout(0.1)
        process = spawn(home, stack, *words, environment={"NOTIFY_SOCKET": str(address)})
        deadline = time.monotonic() + 30
        while not _says_ready(ready):
            if process.poll() is not None or time.monotonic() > deadline:
                said = (home / "log").read_text()[-2000:]
                raise BedError(f"{words[0]} does not start:\n{said}")


def spawn(
    home: Path, stack: ExitStack, *words: str | Path, environment: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """A process that lives as long as the bed; what it says is in `home / "log"`."""
    with (home / "log").open("wb") as output:
        process = subprocess.Popen(
            words,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "PATH": PATH, **(environment or {})},
            start_new_session=True,  # Ctrl-C is for the tests; they end the daemons in order
        )
    stack.callback(_stop, process)
    return process


def _says_ready(ready: socket.socket) -> bool:
    try:
        return b"READY=1" in ready.recv(4096)
    except TimeoutError:
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def command(
    *words: str | Path, environment: dict[str, str] | None = None, deadline_s: float = 60
) -> str:
    """What it printed. Its container may keep the output open, so that goes into files."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        try:
            result = subprocess.run(
                words,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                env={**os.environ, "PATH": PATH, **(environment or {})},
                timeout=deadline_s,
                check=False,
            )
        except FileNotFoundError:
            raise BedError(f"{words[0]} is not installed") from None
        output.seek(0)
        errors.seek(0)
        if result.returncode != 0:
            said = errors.read().decode(errors="replace")
            raise BedError(f"{' '.join(map(str, words))}: exit code {result.returncode}\n{said}")
        return output.read().decode(errors="replace").strip()
