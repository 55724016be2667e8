"""The guest's end: runs what the host asks for, one command after the other.

Over the port go JSON lines. From the host: `{"argv": […], "deadline_s": 60}`. To the host:
`{"up": …}` once, `{"output": "…"}` while a command runs, `{"exit": 0}` at its end. When the host has
gone this ends, and its unit switches the machine off.
"""

import json
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from typing import Any

CHECKOUT = "/ctrwatch"
TIMED_OUT = 124  # as timeout(1) exits
NOT_FOUND = 127  # as a shell says it
KILL_AFTER_S = 10.0  # what does not end on SIGTERM by then won't
REST_OF_OUTPUT_S = 2.0  # a daemon that a command leaves may hold its output open for ever


class Port:
    """A virtio serial port: one open file at a time, both ways."""

    def __init__(self, path: str) -> None:
        self._requests = open(path, "r+b", buffering=0)  # noqa: SIM115  # as long as the process
        self._answers = os.fdopen(os.dup(self._requests.fileno()), "wb")
        self._lock = threading.Lock()

    def requests(self) -> Any:
        return map(json.loads, iter(self._requests.readline, b""))

    def say(self, **message: Any) -> None:
        with self._lock:
            self._answers.write(json.dumps(message).encode() + b"\n")
            self._answers.flush()


def main(port: Port) -> None:
    uptime_s = time.clock_gettime(time.CLOCK_BOOTTIME)
    port.say(up={"kernel": platform.release(), "after_s": round(uptime_s, 1)})
    for request in port.requests():
        port.say(exit=run(port, request["argv"], request["deadline_s"]))


def run(port: Port, argv: list[str], deadline_s: float) -> int:
    """The exit code, as a shell has it."""
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=CHECKOUT,
            start_new_session=True,
        )
    except OSError as error:
        port.say(output=f"{argv[0]}: {error.strerror}\n")
        return NOT_FOUND
    reader = threading.Thread(target=copy_output, args=(process, port), daemon=True)
    reader.start()
    try:
        code = process.wait(deadline_s)
    except subprocess.TimeoutExpired:
        end(process)
        code = TIMED_OUT
    reader.join(REST_OF_OUTPUT_S)
    return code if code >= 0 else 128 - code


def copy_output(process: "subprocess.Popen[bytes]", port: Port) -> None:
    assert process.stdout is not None
    while data := os.read(process.stdout.fileno(), 65536):
        port.say(output=data.decode(errors="replace"))


def end(process: "subprocess.Popen[bytes]") -> None:
    """With all that it started and that has not left its session."""
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(KILL_AFTER_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


if __name__ == "__main__":
    main(Port(sys.argv[1]))
