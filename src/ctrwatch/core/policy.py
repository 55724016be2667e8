"""
A policy: rules that judge a container's birth. From YAML, checked when it is loaded. Pure.

    apiVersion: ctrwatch/v1
    kind: Policy
    metadata: {name: approved-images, description: …}
    lists: {digests: digests.txt}
    parameters: {registries: [docker.io]}
    rules:
      - name: registry
        when: '!pod_sandbox'
        require: image.registry in params.registries
        severity: high
        tags: [T1610]
        message: '{container_image} is from {image.registry}'
        action: log
    tests:
      - name: a stranger's image
        event: {container_image: 'evil.example/x:1'}
        expect: {registry: violation}

The errors are InputErrors that name file, line and key.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, Literal, get_args

import msgspec

from ctrwatch.core import reference, vocabulary
from ctrwatch.core.cel import CelError, Condition, Environment
from ctrwatch.core.document import Part, documents
from ctrwatch.errors import InputError
from ctrwatch.event import Cgroup, ContainerEvent, Evidence, Image, Severity
from ctrwatch.model import Limits, Process, Runtime, Security

__all__ = ("Action", "Outcome", "Policy", "Rule", "TestCase", "check_names", "parse")

Action = Literal["log", "freeze", "kill"]
Outcome = Literal["violation", "pass", "error", "undecided", "not_applicable"]

_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?")
_RULES: Final = 2_000  # of a policy: twice what a birth is judged by in 10 ms
_TAGS: Final = 32
_MESSAGE: Final = 1_000  # characters, filled in
_FIELD: Final = 200  # of one field in it
_IN_BRACES: Final = re.compile(r"\{([^{}]*)\}")
_LINES: Final = 1_000_000  # of a list file: 100 MB of digests


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """`condition` must hold (`denies`: must not) wherever `when` does."""

    name: str
    description: str
    when: Condition | None
    condition: Condition
    denies: bool
    severity: Severity
    tags: tuple[str, ...]
    message: str
    action: Action

    def message_of(self, event: ContainerEvent) -> str:
        """The message with the event's fields in it, bounded."""

        def filled(found: re.Match[str]) -> str:
            return vocabulary.text_at(event, found[1])[:_FIELD]

        return _IN_BRACES.sub(filled, self.message)[:_MESSAGE]


class TestCase(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    line: int
    event: ContainerEvent
    expect: Mapping[str, Outcome]


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    name: str
    description: str
    file: str
    rules: tuple[Rule, ...]
    tests: tuple[TestCase, ...]


def parse(text: bytes, file: str, read_list: Callable[[str], bytes]) -> list[Policy]:
    """
    The policies of a YAML file. *read_list* reads a file that stands beside it.

    Raises InputError, with file, line, key and, where something is misspelt, a suggestion.
    """
    policies = [_policy(document, file, read_list) for document in documents(text, file)]
    if not policies:
        raise InputError(f"{file}: no policy is in it")
    check_names(policies)
    return policies


def check_names(policies: Iterable[Policy]) -> None:
    """Raise InputError where two policies have one name."""
    files: dict[str, str] = {}
    for policy in policies:
        if policy.name in files:
            raise InputError(
                f"{policy.file}: a policy called {policy.name} is in {files[policy.name]} already"
            )
        files[policy.name] = policy.file


def _policy(document: Part, file: str, read_list: Callable[[str], bytes]) -> Policy:
    keys = document.mapping(
        *("apiVersion", "kind", "metadata", "parameters", "lists", "rules", "tests")
    )
    for key, wanted in (("apiVersion", "ctrwatch/v1"), ("kind", "Policy")):
        _of(document, keys, key).choice(wanted)
    _of(document, keys, "rules")
    metadata = _of(document, keys, "metadata").mapping("name", "description", "labels")
    name = _name(_of(keys["metadata"], metadata, "name"))
    params = keys["parameters"].mapping() if "parameters" in keys else {}
    env = Environment(
        _lists(keys["lists"], read_list) if "lists" in keys else {},
        {key: part.plain() for key, part in params.items()},
    )
    rules = _rules(keys["rules"], env)
    names = [rule.name for rule in rules]
    return Policy(
        name=name,
        description=_text(metadata, "description"),
        file=file,
        rules=rules,
        tests=tuple(_test(part, names) for part in keys["tests"].items())
        if "tests" in keys
        else (),
    )


def _of(part: Part, keys: Mapping[str, Part], key: str) -> Part:
    """What *part* must have."""
    if key not in keys:
        part.refuse(f"it has no {key}")
    return keys[key]


def _name(part: Part) -> str:
    name = part.text()
    if not _NAME.fullmatch(name):
        part.refuse(f'"{name[:80]}": a name has small letters, digits, "-", "." and "_"')
    return name


def _text(keys: Mapping[str, Part], key: str) -> str:
    return keys[key].text().strip() if key in keys else ""


def _lists(part: Part, read_list: Callable[[str], bytes]) -> dict[str, frozenset[str]]:
    found = {}
    for name, file in part.mapping().items():
        try:
            lines = read_list(file.text()).decode().splitlines()
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else error
            file.refuse(f'"{file.value}" can\'t be read: {why}')
        if len(lines) > _LINES:
            file.refuse(f"more than {_LINES:,} lines")
        entries = (line.partition("#")[0].strip() for line in lines)
        found[name] = frozenset(filter(None, entries))
    return found


def _rules(part: Part, env: Environment) -> tuple[Rule, ...]:
    rules: dict[str, Rule] = {}
    for each in part.items():
        rule = _rule(each, env)
        if rule.name in rules:
            each.refuse(f"a rule called {rule.name} is here already")
        rules[rule.name] = rule
        if len(rules) > _RULES:
            part.refuse(f"more than {_RULES:,} rules")
    if not rules:
        part.refuse("there is no rule")
    return tuple(rules.values())


def _rule(part: Part, env: Environment) -> Rule:
    keys = part.mapping(
        *("name", "description", "when", "require", "deny", "severity", "tags", "message"),
        "action",
    )
    name = _name(_of(part, keys, "name"))
    if ("require" in keys) == ("deny" in keys):
        part.refuse("a rule has either `require` (what must hold) or `deny`")
    denies = "deny" in keys
    description = _text(keys, "description")
    severity = keys["severity"].choice(*get_args(Severity)) if "severity" in keys else "medium"
    action = keys["action"].choice(*get_args(Action)) if "action" in keys else "log"
    return Rule(
        name=name,
        description=description,
        when=_condition(keys["when"], env) if "when" in keys else None,
        condition=_condition(keys["deny" if denies else "require"], env),
        denies=denies,
        severity=severity,  # type: ignore[arg-type]
        tags=_tags(keys["tags"]) if "tags" in keys else (),
        message=_message(keys["message"]) if "message" in keys else description or name,
        action=action,  # type: ignore[arg-type]
    )


def _condition(part: Part, env: Environment) -> Condition:
    if isinstance(part.value, bool):
        return env.condition(str(part.value).lower())  # `require: false`, a YAML truth
    try:
        return env.condition(part.text())
    except CelError as error:
        part.refuse(str(error), error.line)


def _tags(part: Part) -> tuple[str, ...]:
    tags = tuple(each.text(100) for each in part.items())
    if len(tags) > _TAGS:
        part.refuse(f"more than {_TAGS} tags")
    return tags


def _message(part: Part) -> str:
    text = part.text(_MESSAGE)
    for path in _IN_BRACES.findall(text):
        if path not in vocabulary.PATHS:
            part.refuse(f"{{{path}}} is no field of an event")
    return text


# --- tests that policies bring along --------------------------------------------------------


def _test(part: Part, rules: list[str]) -> TestCase:
    keys = part.mapping("name", "event", "expect")
    expect = {
        rule: outcome.choice(*get_args(Outcome))
        for rule, outcome in _of(part, keys, "expect").mapping(*rules).items()
    }
    return TestCase(
        name=_of(part, keys, "name").text(200),
        line=part.line,
        event=_event(_of(part, keys, "event")),
        expect=expect,  # type: ignore[arg-type]
    )


def _event(part: Part) -> ContainerEvent:
    """A whole event from the few fields that a test gives: else it is an ordinary container."""
    given = part.mapping(*ContainerEvent.__struct_fields__)
    for key, each in given.items():
        if (known := vocabulary.inner(key)) and each.value is not None:
            each.mapping(*known)
    fields: dict[str, Any] = {key: each.plain() for key, each in given.items()}
    event = {**_DEFAULTS, **fields}
    for name in ("security", "limits", "process"):
        if isinstance(fields.get(name), dict):
            event[name] = {**_DEFAULTS[name], **fields[name]}
    image = reference.parse(str(event["container_image"]))
    if "image" not in fields and image is not None:
        event["image"] = {
            "registry": image.registry,
            "repository": image.repository,
            "tag": image.tag,
        }
    try:
        return msgspec.convert(event, ContainerEvent, strict=False)
    except msgspec.ValidationError as error:
        part.refuse(str(error))


_DEFAULTS: Final = msgspec.to_builtins(
    ContainerEvent(
        event="container_create",
        id="0" * 32,
        time="2026-01-01T00:00:00.000000000Z",
        host="host",
        runtime=Runtime.DOCKER,
        container_id="0" * 64,
        ctime=1_767_225_600_000_000_000,
        container_image="docker.io/library/test:1",
        container_image_digest="sha256:" + "0" * 64,
        container_name="test",
        cgroup=Cgroup(id=1, path="/docker/" + "0" * 64, hierarchy_id=0, version=2),
        image=Image(),
        security=Security(
            privileged=False,
            host_network=False,
            host_pid=False,
            host_ipc=False,
            seccomp="filtered",
            read_only=False,
            no_new_privileges=False,
        ),
        limits=Limits(),
        process=Process(),
        evidence=Evidence(status="complete"),
    )
)
