"""A report of real containers, of a watch that was killed and of one that ended."""

from __future__ import annotations

import json
import signal
from pathlib import Path

from tests.live.runtimes import Docker
from tests.live.watching import Watching, ctrwatch

POLICY = """
apiVersion: ctrwatch/v1
kind: Policy
metadata: {name: house}
rules:
  - name: no-breaks
    when: container_name in ['keeps', 'breaks']  # whatever else is born on this host
    require: container_name != 'breaks'
    message: '{container_name} is not wanted here'
"""


def test_what_ran_is_reported_with_the_hole_between_two_watches(
    docker: Docker, tmp_path: Path
) -> None:
    path, policy = tmp_path / "history.db", tmp_path / "house.yaml"
    policy.write_text(POLICY)
    with Watching("--store", str(path)) as watching:
        kept = docker.run("sleep", "600", options=("--name", "keeps"))
        watching.event("container_start", kept)
        watching.until(lambda: kept in ctrwatch("history", "--store", str(path), "--json"), "kept")
        assert watching.stop(signal.SIGKILL) == -signal.SIGKILL
    with Watching("--store", str(path)) as watching:
        watching.event("existing_container", kept)  # the same birth, told again
        broke = docker.run("true", options=("--name", "breaks"))
        watching.event("container_remove", broke)
        assert watching.stop() == 0

    asked = ("report", "--store", str(path), "--policy", str(policy))
    made = json.loads(ctrwatch(*asked, "--json"))
    assert [each["end"] for each in made["watchings"]] == ["no_stop", "stopped"]
    assert "not_watched" in {hole["reason"] for hole in made["holes"]}
    assert made["chain"]["whole"]
    [image] = [ran for ran in made["images"] if ran["broke"]]
    assert image["approved"] == "no"
    assert image["broke"] == {"house/no-breaks": 1}
    assert image["held"] == {"house/no-breaks": 1}  # told by both watches, and born once
    [rule] = made["judged"]["by_rule"]
    assert [each["container_id"] for each in rule["examples"]] == [broke]
    assert f"{broke[:12]}</code>" in ctrwatch(*asked)
