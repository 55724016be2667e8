"""The options of `ctrwatch policy`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ctrwatch.commands.asked import SEVERITIES
from ctrwatch.commands.past_options import AS_JSON, OF_STORE, SINCE

if TYPE_CHECKING:
    from ctrwatch.event import Severity

__all__ = ("policy",)


@click.group(short_help="Policies: list, show, check, test.")
def policy() -> None:
    """Policies judge each birth, and what containers use: `ctrwatch events --policy NAME`.

    \b
    ctrwatch policy list                      the policies that ship
    ctrwatch policy show attack-containers    its rules
    ctrwatch policy check my-policy.yaml      is it right?
    ctrwatch policy test my-policy.yaml       do its own tests pass?
    ctrwatch policy replay my-policy.yaml     what would it have said?
    ctrwatch policy learn                     a policy that approves what ran
    """


@policy.command("list", epilog="Example: ctrwatch policy list --json | jq -r .name")
@AS_JSON
def policy_list(*, as_json: bool) -> None:
    """The policies that ship, with what they are for."""
    from ctrwatch.commands.policy import list_

    sys.exit(list_(as_json=as_json))


@policy.command("show", epilog="Example: ctrwatch policy show attack-containers --yaml > mine.yaml")
@click.argument("policy", metavar="FILE|DIR|NAME")
@click.option("--yaml", "as_yaml", is_flag=True, help="As it is written, to start one's own from.")
@AS_JSON
def policy_show(*, policy: str, as_yaml: bool, as_json: bool) -> None:
    """The rules of a policy."""
    from ctrwatch.commands.policy import show

    sys.exit(show(policy, as_json=as_json, as_yaml=as_yaml))


@policy.command("check", epilog="Example: ctrwatch policy check /etc/ctrwatch/policies")
@click.argument("policies", nargs=-1, required=True, metavar="FILE|DIR|NAME…")
@AS_JSON
def policy_check(*, policies: Sequence[str], as_json: bool) -> None:
    """Whether policies can be used: types, fields, names. Exit code 2 where one can't."""
    from ctrwatch.commands.policy import check

    sys.exit(check(policies, as_json=as_json))


@policy.command("test", epilog="Example: ctrwatch policy test my-policy.yaml")
@click.argument("policies", nargs=-1, required=True, metavar="FILE|DIR|NAME…")
@AS_JSON
def policy_test(*, policies: Sequence[str], as_json: bool) -> None:
    """Run the tests that policies bring along. Exit code 1 where one fails."""
    from ctrwatch.commands.policy import test

    sys.exit(test(policies, as_json=as_json))


@policy.command("replay", epilog="Example: sudo ctrwatch policy replay cis-docker --since 7d")
@click.argument("policies", nargs=-1, required=True, metavar="FILE|DIR|NAME…")
@OF_STORE
@SINCE
@AS_JSON
@click.option(
    "--fail-on",
    type=click.Choice(SEVERITIES),
    help="Exit with 4 if a violation was as severe as this.",
)
def policy_replay(
    *,
    policies: Sequence[str],
    store: Path,
    since: str | None,
    as_json: bool,
    fail_on: Severity | None,
) -> None:
    """What policies would have said over the births of a history."""
    from ctrwatch.commands.hindsight import replay

    sys.exit(replay(policies, store, since=since, as_json=as_json, fail_on=fail_on))


@policy.command(
    "learn", epilog="Example: sudo ctrwatch policy learn --since 30d --output approved.yaml"
)
@OF_STORE
@SINCE
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="A new file. [default: standard output]",
)
def policy_learn(*, store: Path, since: str | None, output: Path | None) -> None:
    """Write an approved-images policy from what ran, for a person to review.

    By the registry's digest; where there is none, by the image's id, else by its name.
    """
    from ctrwatch.commands.hindsight import learn

    sys.exit(learn(store, output, since=since))
