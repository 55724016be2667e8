"""The recorded data (tests/data, each with its README) and subjects to ask about."""

import atexit
import json
import os
import shutil
import tempfile
from pathlib import Path

from ctrwatch.model import (
    Answer,
    CgroupKey,
    ContainerId,
    Facts,
    Found,
    Leads,
    NotFound,
    Subject,
    Task,
    Unavailable,
)

# A copy: files count only if they belong to the container's user, which is who runs the tests.
_COPY = tempfile.mkdtemp(prefix="ctrwatch-data-")
atexit.register(shutil.rmtree, _COPY)
DATA = Path(shutil.copytree(Path(__file__).parents[1] / "data", _COPY, dirs_exist_ok=True))


def ids(runtime: str) -> dict[str, str]:
    found: dict[str, str] = json.loads((DATA / runtime / "ids.json").read_text())
    return found


def subject(
    container_id: str,
    leads: Leads | None = None,
    *,
    uid: int | None = None,
    creator: Task | None = None,
    init: Task | None = None,
    facts: Facts | None = None,
) -> Subject:
    return Subject(
        container_id=ContainerId(container_id),
        cgroup=CgroupKey(0, 1),
        cgroup_path="/some/cgroup",
        uid=os.getuid() if uid is None else uid,
        creator=creator,
        init=init,
        facts=facts or Facts(leads=leads or Leads()),
    )


def found(answer: Answer) -> Facts:
    assert isinstance(answer, Found), answer
    return answer.facts


def why(answer: Answer) -> str:
    assert isinstance(answer, Unavailable), answer
    return answer.why


def is_not_found(answer: Answer) -> bool:
    return isinstance(answer, NotFound)
