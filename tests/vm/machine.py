"""
A whole other machine: Debian 12 with systemd, under QEMU's software emulation, which needs no KVM.

    with Machine(disk(cache), python_packages(cache), results) as machine:
        machine.run(["podman", "info"], deadline_s=60)

The guest has this checkout in /ctrwatch and the Python packages in /python, both read-only, and
`results` in /results. It has no network, and forgets what was written to its disk. Its console goes to
`results/console.log`. However it ends, no process of it stays.
"""

import json
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.vm.disk import DIES_WITH_US, ROOT, Disk, VmError

QEMU = "qemu-system-x86_64"
BOOT_S = 240.0  # 17 s on two idle cores, 40 s beside other work
SHUTDOWN_S = 30.0  # it takes one or two
ANSWER_S = 30.0  # the guest ends a command that is late itself, within 10 s; then it is to say so

KERNEL_COMMAND_LINE = (
    "root=/dev/vda rw rootflags=noatime,noinit_itable "
    "console=ttyS0 panic=-1 "  # with -no-reboot a panic ends QEMU
    "systemd.mask=serial-getty@ttyS0.service"
)


class Machine:
    """Booted when the block begins; switched off at its end. Raises `VmError`."""

    def __init__(self, disk: Disk, python: Path, results: Path) -> None:
        self._disk, self._python = disk, python
        self._console = results / "console.log"
        self._results = results

    def __enter__(self) -> Self:
        if shutil.which(QEMU) is None:
            raise VmError(f"{QEMU} is not installed: scripts/setup.sh --vm")
        self._port, guests_end = socket.socketpair()
        self._received = b""
        with guests_end, (self._results / "qemu.log").open("wb") as log:
            self._qemu = subprocess.Popen(
                (*DIES_WITH_US, "nice", "-n", "10", QEMU, *self._options(guests_end.fileno())),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(guests_end.fileno(),),
                start_new_session=True,  # Ctrl-C is for us: the machine is ended in good order
            )
        try:
            self.up = self._await("up", BOOT_S, "boot")
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self._port.shutdown(socket.SHUT_RDWR)  # the guest reads that nobody is there any more
            try:
                self._qemu.wait(SHUTDOWN_S)
            except subprocess.TimeoutExpired:
                print(f"the guest did not switch off in {SHUTDOWN_S:.0f} s", file=sys.stderr)
        self._kill()

    def run(
        self,
        argv: Sequence[str],
        deadline_s: float,
        output: Callable[[str], Any] = sys.stdout.write,
    ) -> int:
        """As root, in /ctrwatch; the exit code as a shell has it, 124 when it was too late."""
        request = {"argv": list(argv), "deadline_s": deadline_s}
        try:
            self._port.sendall(json.dumps(request).encode() + b"\n")
        except OSError:
            raise self._gone("run") from None
        code = self._await("exit", deadline_s + ANSWER_S, "run", output)
        return int(code)

    def _await(
        self, key: str, deadline_s: float, phase: str, output: Callable[[str], Any] | None = None
    ) -> Any:
        until = time.monotonic() + deadline_s
        while True:
            line, newline, rest = self._received.partition(b"\n")
            if newline:
                self._received = rest
                message = json.loads(line)
                if key in message:
                    return message[key]
                if output is not None:
                    output(message["output"])
                continue
            self._port.settimeout(max(0.001, until - time.monotonic()))
            try:
                data = self._port.recv(1 << 16)
            except TimeoutError:
                raise VmError(f"{phase}: not done in {deadline_s:.0f} s{self._said()}") from None
            except OSError:
                data = b""
            if not data:
                raise self._gone(phase)
            self._received += data

    def _gone(self, phase: str) -> VmError:
        return VmError(f"{phase}: the guest has gone{self._said()}")

    def _said(self) -> str:
        """What QEMU and the guest's kernel and systemd said last."""
        logs = (self._results / "qemu.log", self._console)
        said = "".join(log.read_text(errors="replace") for log in logs if log.exists())
        return "\n".join([f"; see {self._console}", *said.splitlines()[-12:]])

    def _kill(self) -> None:
        self._port.close()
        self._qemu.kill()
        self._qemu.wait()

    def _options(self, port: int) -> list[str]:
        def share(tag: str, path: Path, more: str = ",readonly=on") -> tuple[str, str]:
            return "-virtfs", f"local,path={path},mount_tag={tag},security_model=none{more}"

        return [
            "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-nic", "none",
            "-accel", "tcg,thread=multi", "-smp", "2", "-cpu", "max", "-m", "2048",
            "-kernel", str(self._disk.kernel), "-initrd", str(self._disk.initrd),
            "-append", KERNEL_COMMAND_LINE,
            "-serial", f"file:{self._console}",
            "-drive", f"file={self._disk.image},format=raw,if=virtio,snapshot=on,cache=unsafe",
            "-device", "virtio-rng-pci",
            "-device", "virtio-serial-pci",
            "-chardev", f"socket,id=port,fd={port}",
            "-device", "virtserialport,chardev=port,name=ctrwatch",
            *share("checkout", ROOT), *share("python", self._python),
            *share("results", self._results, ""),
        ]  # fmt: skip
