"""
A policy: rules that judge a container's birth, or its use. From YAML, checked when it is loaded. Pure.

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
      - name: cpu-hog
        deny: usage.cpu_cores > 2.0
        for: 30s
    tests:
      - name: a stranger's image
        event: {container_image: 'evil.example/x:1'}
        expect: {registry: violation}
      - name: a busy loop
        event: {}
        usage: {cpu_cores: 4.0}
        lasted: 30s
        expect: {cpu-hog: violation}

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
from ctrwatch.core.figures import FIGURES, IDLE, LIMITS, PREFIX, Figures, shares, text_of
from ctrwatch.core.moments import span_ns
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
_LONGEST_S: Final = 86_400  # a hold: what goes on for a day is no news any more
_NEW: Final = "new_registry"
_LINES: Final = 1_000_000  # of a list file: 100 MB of digests


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """
    `condition` must hold (`denies`: must not) wherever `when` does.

    *hold_ns*: it judges what a container uses, and is broken if it was at all looks for that long.
    None: it judges births.
    """

    name: str
    description: str
    when: Condition | None
    condition: Condition
    denies: bool
    severity: Severity
    tags: tuple[str, ...]
    message: str
    action: Action
    hold_ns: int | None = None

    def message_of(self, event: ContainerEvent, figures: Figures | None = None) -> str:
        """The message with the event's fields and the container's *figures* in it, bounded."""

        def filled(found: re.Match[str]) -> str:
            if found[1] in FIGURES:
                return text_of(found[1], figures or {})
            return vocabulary.text_at(event, found[1])[:_FIELD]

        return _IN_BRACES.sub(filled, self.message)[:_MESSAGE]


class TestCase(msgspec.Struct, frozen=True, kw_only=True):
    """*figures*: what it used at all looks for *lasted_ns* (None: for ever); None: nobody looked."""

    name: str
    line: int
    event: ContainerEvent
    expect: Mapping[str, Outcome]
    figures: Figures | None = None
    lasted_ns: int | None = None


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
        figures=True,
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
        *("action", "for"),
    )
    name = _name(_of(part, keys, "name"))
    if ("require" in keys) == ("deny" in keys):
        part.refuse("a rule has either `require` (what must hold) or `deny`")
    denies = "deny" in keys
    description = _text(keys, "description")
    severity = keys["severity"].choice(*get_args(Severity)) if "severity" in keys else "medium"
    action = keys["action"].choice(*get_args(Action)) if "action" in keys else "log"
    when = _condition(keys["when"], env) if "when" in keys else None
    condition = _condition(keys["deny" if denies else "require"], env)
    hold_ns = _hold_ns(part, keys, (condition, when) if when is not None else (condition,))
    return Rule(
        name=name,
        description=description,
        when=when,
        condition=condition,
        denies=denies,
        severity=severity,  # type: ignore[arg-type]
        tags=_tags(keys["tags"]) if "tags" in keys else (),
        message=_message(keys["message"], use=hold_ns is not None)
        if "message" in keys
        else description or name,
        action=action,  # type: ignore[arg-type]
        hold_ns=hold_ns,
    )


def _hold_ns(part: Part, keys: Mapping[str, Part], conditions: Iterable[Condition]) -> int | None:
    """None: the rule reads no use."""
    if not any(condition.reads_use for condition in conditions):
        if "for" in keys:
            keys["for"].refuse("the rule reads no `usage`, so it judges a birth, which has no time")
        return None
    if any(_NEW in condition.paths for condition in conditions):
        part.refuse(f"{_NEW} is known at a birth only, and `usage` later")
    condition, *when = conditions
    asked = {condition, *(each for each in when if each.reads_use)}
    if called := {name for each in asked for name in each.calls}:
        part.refuse(
            f"{min(called)}: a rule on usage may call it in its `when` only, if that reads no usage:"
            " so it is asked once for a container, and not at each look"
        )
    return _span_ns(keys["for"]) if "for" in keys else 0


def _span_ns(part: Part) -> int:
    text = part.text()
    span = span_ns(text)
    if span is None or span > _LONGEST_S * 10**9:
        part.refuse(f'"{text[:40]}": give a time as 30s or 5m, of at most a day')
    return span


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


def _message(part: Part, *, use: bool) -> str:
    text = part.text(_MESSAGE)
    for path in _IN_BRACES.findall(text):
        if path.startswith(PREFIX) and not use:
            part.refuse(f"{{{path}}}: the rule reads no `usage`, so nobody looks at it")
        if path not in (FIGURES if path.startswith(PREFIX) else vocabulary.PATHS):
            part.refuse(f"{{{path}}} is no field of an event")
    return text


# --- tests that policies bring along --------------------------------------------------------


def _test(part: Part, rules: list[str]) -> TestCase:
    keys = part.mapping("name", "event", "usage", "lasted", "expect")
    expect = {
        rule: outcome.choice(*get_args(Outcome))
        for rule, outcome in _of(part, keys, "expect").mapping(*rules).items()
    }
    if "lasted" in keys and "usage" not in keys:
        keys["lasted"].refuse("of what? There is no usage")
    return TestCase(
        name=_of(part, keys, "name").text(200),
        line=part.line,
        event=_event(_of(part, keys, "event")),
        expect=expect,  # type: ignore[arg-type]
        figures=_used(keys["usage"]) if "usage" in keys else None,
        lasted_ns=_span_ns(keys["lasted"]) if "lasted" in keys else None,
    )


def _used(part: Part) -> Figures:
    """An idle container's figures, but for those that the test gives; null: not known, or no limit."""
    pressure = f"{PREFIX}pressure"
    names = [name.removeprefix(PREFIX) for name in FIGURES if not name.startswith(pressure)]
    given = {f"{PREFIX}{name}": each for name, each in part.mapping(*names, "pressure").items()}
    if pressure in given:
        inner_ = [name.rpartition(".")[2] for name in FIGURES if name.startswith(pressure)]
        below = given.pop(pressure).mapping(*inner_)
        given |= {f"{pressure}.{name}": each for name, each in below.items()}
    values = {name: _figure(name, each) for name, each in given.items()}
    known = {
        name: value
        for name, value in {**IDLE, **values}.items()
        if value is not None or name in LIMITS
    }
    of_limits = {name: each for name, each in shares(known).items() if name not in values}
    return {**known, **of_limits}


def _figure(name: str, part: Part) -> float | int | None:
    value, kind = part.value, FIGURES[name]
    if value is None:
        return None
    wrong = isinstance(value, bool) or not isinstance(value, int | float)
    if wrong or not 0 <= value < 1 << 63 or (kind is int and not isinstance(value, int)):
        part.refuse(f"a {'whole ' * (kind is int)}number from 0 on is wanted here")
    return float(value) if kind is float else int(value)


def _event(part: Part) -> ContainerEvent:
    """A whole event from the few fields that a test gives: else it is an ordinary container."""
    given = part.mapping(*(name for name in ContainerEvent.__struct_fields__ if name != "usage"))
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
