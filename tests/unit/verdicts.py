"""A violation and the birth that it is of, for tests of what is done about one."""

from __future__ import annotations

import msgspec

from ctrwatch.event import Cgroup, ContainerEvent, Creator, Evidence, Violation
from ctrwatch.model import Process, Runtime, Security

EVENT = ContainerEvent(
    event="container_create",
    id="b1",
    time="2026-11-26T00:00:00.000000000Z",
    host="h",
    runtime=Runtime.DOCKER,
    container_id="c1" * 32,
    container_name="web",
    container_image="docker.io/library/nginx:1.27",
    cgroup=Cgroup(id=77, path="/docker/c1", hierarchy_id=0, version=2),
    creator=Creator(pid=10, uid=0),
    labels={"password": "hunter2"},
    security=Security(privileged=True),
    process=Process(args=("serve", "--token", "hunter2")),
    evidence=Evidence(status="complete"),
)
VIOLATION = Violation(
    id="v1",
    time=EVENT.time,
    host="h",
    policy="p",
    rule="no-nginx",
    severity="high",
    tags=("T1610",),
    message="nginx is not approved",
    action="kill",
    event_id="b1",
    runtime=Runtime.DOCKER,
    container_id=EVENT.container_id,
    container_name="web",
)


def numbered(number: int) -> Violation:
    return msgspec.structs.replace(VIOLATION, id=f"v{number}")
