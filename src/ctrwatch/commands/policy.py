"""`ctrwatch policy`: which there are, what they say, whether they are right."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from ctrwatch.commands.table import print_table
from ctrwatch.core.holding import expected
from ctrwatch.core.policy import Policy, Rule, TestCase
from ctrwatch.core.text import clean, escaped
from ctrwatch.errors import InputError
from ctrwatch.policies import load, shipped, text_of

__all__ = ("check", "list_", "show", "test")

_WIDE: Final = 100  # characters of a description in a table


def list_(*, as_json: bool) -> int:
    policies = load(shipped())
    if as_json:
        _json(_summary(policy) for policy in policies)
        return 0
    rows = [("NAME", "RULES", "DESCRIPTION")]
    rows += [
        (policy.name, str(len(policy.rules)), clean(policy.description, _WIDE))
        for policy in policies
    ]
    print_table(rows)
    return 0


def show(source: str, *, as_json: bool, as_yaml: bool) -> int:
    if as_yaml:
        sys.stdout.write(text_of(source))
        return 0
    policies = load([source])
    if as_json:
        _json(
            {**_summary(policy), "rules": [_described(rule) for rule in policy.rules]}
            for policy in policies
        )
        return 0
    for number, policy in enumerate(policies):
        between = "\n" if number else ""
        sys.stdout.write(f"{between}{policy.name}: {clean(policy.description, 500)}\n\n")
        rows = [("SEVERITY", "RULE", "JUDGES", "TAGS", "DESCRIPTION")]
        rows += [
            (
                rule.severity,
                rule.name,
                _moment(rule),
                clean(" ".join(rule.tags), 60) or "-",
                clean(rule.description or rule.message, _WIDE),
            )
            for rule in policy.rules
        ]
        print_table(rows)
    return 0


def check(sources: Sequence[str], *, as_json: bool) -> int:
    """Each by itself, so that one that is wrong does not hide the next; 2 where one is."""
    wrong = 0
    for source in sources:
        try:
            policies = load([source])
        except InputError as error:
            wrong += 1
            if as_json:
                _json([{"source": source, "ok": False, "error": str(error)}])
            else:
                sys.stderr.write(f"ctrwatch: {clean(str(error), 4096)}\n")
            continue
        for policy in policies:
            if as_json:
                _json([{"source": source, "ok": True, **_summary(policy)}])
            else:
                sys.stdout.write(f"{clean(source, 200)}: {_counted(policy)}\n")
    return 2 if wrong else 0


def test(sources: Sequence[str], *, as_json: bool) -> int:
    """Run the tests that policies bring along; 1 where one fails, or there are none."""
    policies = load(sources)
    failed = 0
    for policy in policies:
        found = [(case, _differs(policy, case)) for case in policy.tests]
        failed += sum(bool(differs) for _, differs in found) or not found
        if as_json:
            _json(
                {"policy": policy.name, "test": case.name, "ok": not differs, "differs": differs}
                for case, differs in found
            )
            continue
        for case, differs in found:
            where = f"{policy.file}:{case.line}"
            for rule, (wanted, outcome) in differs.items():
                sys.stdout.write(
                    f"{clean(where, 200)}: {clean(case.name, 200)}: {rule}:"
                    f" {wanted} was expected, and it is {outcome}\n"
                )
        passed = sum(not differs for _, differs in found)
        said = f"{passed} of {len(found)} tests pass" if found else "it has no tests"
        sys.stdout.write(f"{policy.name}: {said}\n")
    return 1 if failed else 0


def _differs(policy: Policy, case: TestCase) -> dict[str, tuple[str, str]]:
    outcomes = {rule.name: expected(rule, case) for rule in policy.rules}
    return {
        rule: (wanted, outcomes[rule])
        for rule, wanted in case.expect.items()
        if outcomes[rule] != wanted
    }


def _summary(policy: Policy) -> dict[str, Any]:
    return {
        "name": policy.name,
        "description": policy.description,
        "file": policy.file,
        "rules": len(policy.rules),
        "rules_on_usage": _on_usage(policy),
        "tests": len(policy.tests),
    }


def _described(rule: Rule) -> dict[str, Any]:
    return {
        "name": rule.name,
        "description": rule.description,
        "when": rule.when.text if rule.when is not None else None,
        "deny" if rule.denies else "require": rule.condition.text,
        "for_seconds": rule.hold_ns / 10**9 if rule.hold_ns is not None else None,
        "severity": rule.severity,
        "tags": rule.tags,
        "message": rule.message,
        "action": rule.action,
    }


def _counted(policy: Policy) -> str:
    rules, tests = len(policy.rules), len(policy.tests)
    use = _on_usage(policy)
    on_usage = f" ({use} on usage: events --usage)" if use else ""
    return (
        f"{policy.name}: {rules} rule{'s' * (rules != 1)}{on_usage},"
        f" {tests} test{'s' * (tests != 1)}"
    )


def _on_usage(policy: Policy) -> int:
    return sum(rule.hold_ns is not None for rule in policy.rules)


def _moment(rule: Rule) -> str:
    """When it is judged: at a birth, or after its hold."""
    if rule.hold_ns is None:
        return "birth"
    return f"usage, {rule.hold_ns // 10**9} s" if rule.hold_ns else "usage"


def _json(objects: Iterable[dict[str, Any]]) -> None:
    shown = escaped if sys.stdout.isatty() else bytes
    for each in objects:
        sys.stdout.write(shown(msgspec.json.encode(each)).decode() + "\n")
