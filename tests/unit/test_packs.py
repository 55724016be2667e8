"""The policies that ship: each rule has tests of its own, and a container that breaks it."""

from __future__ import annotations

from importlib import resources
from typing import Any

import msgspec
import pytest
import yaml

from ctrwatch.core.cel import Facts
from ctrwatch.core.judge import Judge, judge
from ctrwatch.core.policy import Policy, parse
from ctrwatch.policies import load, shipped
from scripts.gen_policies_md import PAGE, page, who_breaks
from tests.live.hogs import HOGS, RESOURCES
from tests.live.offenders import APPROVED, ATTACK, BASELINE, CIS, LSM, OFFENDERS, RESTRICTED

PACKS = (BASELINE, RESTRICTED, CIS, ATTACK, APPROVED, RESOURCES)


def source(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(
        (resources.files("ctrwatch.policies") / f"{name}.yaml").read_bytes()
    )
    return found


def with_parameters(name: str, **parameters: object) -> Policy:
    document = source(name)
    document["parameters"] |= parameters
    (policy,) = parse(yaml.safe_dump(document).encode(), f"{name}.yaml", lambda _: b"")
    return policy


def outcome(policy: Policy, rule: str, event: dict[str, Any]) -> str:
    """Of an event as a policy's own test gives it."""
    document = {
        "apiVersion": "ctrwatch/v1",
        "kind": "Policy",
        "metadata": {"name": "t"},
        "rules": [{"name": "r", "deny": "false"}],
        "tests": [{"name": "t", "event": event, "expect": {}}],
    }
    (parsed,) = parse(yaml.safe_dump(document).encode(), "t.yaml", lambda _: b"")
    (found,) = (each for each in policy.rules if each.name == rule)
    return judge(found, Facts(parsed.tests[0].event)).outcome


def test_these_ship() -> None:
    assert set(shipped()) == set(PACKS)


@pytest.mark.parametrize("name", PACKS)
def test_each_rule_has_its_message_its_severity_and_its_tags(name: str) -> None:
    for rule in source(name)["rules"]:
        assert {"name", "description", "severity", "tags", "message"} <= rule.keys(), rule["name"]


# Those that a parameter or an earlier container decides, which a policy's own tests can't give.
ELSEWHERE = {(APPROVED, "digest"), (APPROVED, "by-digest"), (CIS, "5.3-selinux")}


@pytest.mark.parametrize("name", PACKS)
def test_a_test_breaks_each_rule_and_one_does_not(name: str) -> None:
    (policy,) = load([name])
    expected = {pair for test in policy.tests for pair in test.expect.items()}
    lacking = {
        rule.name
        for rule in policy.rules
        if not {(rule.name, "violation"), (rule.name, "pass")} <= expected
        and (name, rule.name) not in {*ELSEWHERE, (ATTACK, "new-registry")}
    }

    assert lacking == set()


@pytest.mark.parametrize("name", PACKS)
def test_a_container_breaks_each_rule(name: str) -> None:
    (policy,) = load([name])

    for rule in policy.rules:
        assert who_breaks(name, rule.name)


def test_the_containers_break_rules_that_are_there() -> None:
    rules = {name: {rule.name for rule in load([name])[0].rules} for name in PACKS}
    for offender in (*OFFENDERS.values(), *HOGS.values()):
        for pack, broken in offender.breaks.items():
            assert set(broken.split()) <= rules[CIS if pack == LSM else pack]


def test_restricted_has_all_that_baseline_has() -> None:
    baseline, restricted = (
        {rule["name"]: rule for rule in source(name)["rules"]} for name in PACKS[:2]
    )
    stricter = {"capabilities", "seccomp"}

    assert baseline.keys() <= restricted.keys()
    for name in baseline.keys() - stricter:
        assert restricted[name] == baseline[name]


def test_the_page_is_the_one_that_the_policies_give() -> None:
    assert PAGE.read_text() == page(), "run: python -m scripts.gen_policies_md"


# --- parameters -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("digest", "expected"), [("sha256:" + "a" * 64, "pass"), ("sha256:" + "b" * 64, "violation")]
)
def test_an_approved_digest(digest: str, expected: str) -> None:
    policy = with_parameters(APPROVED, digests=["sha256:" + "a" * 64])

    assert outcome(policy, "digest", {"container_image_digest": digest}) == expected


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        ("docker.io/library/nginx@sha256:" + "a" * 64, "pass"),
        ("docker.io/library/nginx:1@sha256:" + "a" * 64, "pass"),
        ("docker.io/library/nginx:1", "violation"),
        ("docker.io/library/nginx:sha256", "violation"),
    ],
)
def test_a_tag_without_a_digest_is_refused_if_asked(image: str, expected: str) -> None:
    policy = with_parameters(APPROVED, by_digest=True)

    assert outcome(policy, "by-digest", {"container_image": image}) == expected


def test_images_that_come_as_archives() -> None:
    policy = with_parameters(APPROVED, from_registry=False)
    built = {
        "container_image_digest": "",
        "evidence": {"missing": {"container_image_digest": "no_registry_digest"}},
    }

    assert outcome(policy, "from-registry", built) == "not_applicable"


def test_a_host_with_selinux_or_apparmor() -> None:
    policy = with_parameters(CIS, apparmor=True, selinux=True)
    none = {"security": {"privileged": False}}
    both = {"security": {"privileged": False, "apparmor": "docker-default", "selinux": "u:r:t:s0"}}

    for rule in ("5.2-apparmor", "5.3-selinux"):
        assert outcome(policy, rule, none) == "violation"
        assert outcome(policy, rule, both) == "pass"


def test_a_kubelet_with_a_default_for_seccomp() -> None:
    policy = with_parameters(BASELINE, kubelet_seccomp_default=True)
    pod = {"pod_namespace": "shop", "security": {"privileged": False, "seccomp": "unconfined"}}

    assert outcome(policy, "seccomp", pod) == "violation"


def test_the_first_container_from_a_registry() -> None:
    (policy,) = load([ATTACK])
    rules = [rule for rule in policy.rules if rule.name == "new-registry"]
    watch = Judge([msgspec.structs.replace(policy, rules=tuple(rules))], 0)
    event = policy.tests[0].event

    assert [each.violation.rule for each in watch.heard(event, 0)] == ["new-registry"]
    assert watch.heard(event, 0) == []


# --- what stands in the way of a way round ------------------------------------------------------


@pytest.mark.parametrize(
    ("mount", "rule"),
    [
        pytest.param("//", "host-root", id="the-root-with-two-slashes"),
        pytest.param("/var/..", "host-root", id="the-root-by-a-detour"),
        pytest.param("//proc", "host-proc", id="proc-with-two-slashes"),
        pytest.param("/var/../proc", "host-proc", id="proc-by-a-detour"),
        pytest.param("/var/../etc/cron.d", "host-files", id="cron-by-a-detour"),
        pytest.param("/./etc/cron.d", "host-files", id="cron-with-a-dot"),
        pytest.param("//etc/cron.d", "host-files", id="cron-with-two-slashes"),
        pytest.param("/run/", "runtime-socket", id="a-directory-with-a-slash"),
    ],
)
def test_a_path_that_is_written_strangely_is_no_way_round(mount: str, rule: str) -> None:
    (policy,) = load([ATTACK])
    event = {
        "security": {
            "mounts": [{"source": mount, "destination": "/m", "type": "bind", "read_only": False}]
        }
    }

    assert outcome(policy, rule, event) == "violation"
