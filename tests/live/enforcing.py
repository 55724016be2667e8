"""A watch that stops what it was told to: `python -m tests.live.enforcing kill`, as `ctrwatch events` does.

The rule is this program's own: no entry point has an argument that contains "forbidden".
"""

import argparse
import asyncio
import os
import signal
import sys

import msgspec

from ctrwatch.actions.enforce import Enforcer
from ctrwatch.app import Heard, Watch, open_sensor
from ctrwatch.config import Settings
from ctrwatch.core.ids import stable_id
from ctrwatch.core.story import Tell
from ctrwatch.event import ContainerEvent, Violation
from ctrwatch.privileges import keep
from ctrwatch.sensor.host import read_host

KEPT = ("CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_SYS_PTRACE", "CAP_KILL")


def violation(event: ContainerEvent, action: str) -> Violation | None:
    args = event.process.args if event.process is not None else ()
    if not any("forbidden" in arg for arg in args):
        return None
    return Violation(
        id=stable_id(event.id, "test", "forbidden"), time=event.time, host=event.host,
        policy="test", rule="forbidden", severity="high", tags=(), message="not here",
        action=action, event_id=event.id, runtime=event.runtime,  # type: ignore[arg-type]
        container_id=event.container_id, container_name=event.container_name,
    )  # fmt: skip


def _print(event: object) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(event) + b"\n")
    sys.stdout.buffer.flush()


async def main(action: str, *, dry_run: bool) -> None:
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    os.setpriority(os.PRIO_PROCESS, 0, -10)
    host = read_host()
    sensor = open_sensor(host, Settings())
    keep(KEPT)

    def listen(heard: Heard) -> None:
        if isinstance(heard, Tell):
            _print(heard.event)
            enforcer.heard(heard.event)
            if heard.event.event == "container_create":
                broken = violation(heard.event, action)
                if broken is not None:
                    enforcer.judged(broken, heard.event)

    watch = Watch(Settings(existing=False), host, sensor, listen)
    enforcer = Enforcer(host, watch.places, _print, dry_run=dry_run, blind=bool(sensor.without))
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(watch.run())
        await watch.caught_up.wait()
        sys.stderr.write("listening\n")
        await ended.wait()
        await enforcer.close()
        running.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("action", choices=("freeze", "kill"))
    parser.add_argument("--dry-run", action="store_true")
    given = parser.parse_args()
    asyncio.run(main(given.action, dry_run=given.dry_run))
