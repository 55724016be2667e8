"""Policies: checked when they are loaded, and what is not known is never a pass."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, strategies as st

from ctrwatch.core import vocabulary
from ctrwatch.core.cel import CelError, Environment, Facts, Failed, Unknown
from ctrwatch.core.helpers import glob, image_matches
from ctrwatch.core.holding import expected
from ctrwatch.core.judge import Breach, Judge
from ctrwatch.core.macros import expanded
from ctrwatch.core.policy import Policy, parse
from ctrwatch.errors import InputError
from ctrwatch.event import Bill, ContainerEvent
from ctrwatch.model import Missing, Mount
from ctrwatch.policies import load, shipped
from tests.unit.test_render import WEB

HEAD = "apiVersion: ctrwatch/v1\nkind: Policy\nmetadata: {name: p}\n"
S = 1_000_000_000


def missing(event: ContainerEvent, **reasons: Missing) -> ContainerEvent:
    """*event*, where these fields could not be told; `image_id` is `image.id`."""
    named = {field.replace("image_id", "image.id"): why for field, why in reasons.items()}
    evidence = msgspec.structs.replace(event.evidence, missing=named, after_ms=0.0)
    return msgspec.structs.replace(event, evidence=evidence)


def policies(rules: str, lists: dict[str, bytes] | None = None) -> list[Policy]:
    return parse((HEAD + rules).encode(), "p.yaml", lambda name: (lists or {})[name])


def one_rule(condition: str, **more: str) -> list[Policy]:
    """*condition* in CEL: `require: …` or `deny: …`."""
    extra = "".join(f"    {key}: {value}\n" for key, value in more.items())
    return policies(f"rules:\n  - name: r\n    {condition}\n{extra}")


def holds(text: str, event: ContainerEvent) -> bool | Unknown | Failed:
    return Environment().condition(text).holds(Facts(event))


def verdicts(judge: Judge, event: ContainerEvent, now_ns: int = 0) -> list[str]:
    return [each.violation.verdict for each in judge.heard(event, now_ns)]


# --- conditions -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("container_image == 'docker.io/library/nginx:1.27'", True),
        ("event == 'container_create' && runtime == 'containerd'", True),
        ("security.privileged == true", False),
        ("limits.pids == null", True),
        ("limits.cpu_cores > 0.4", True),
        ("has(limits.memory_bytes)", True),
        ("security.mounts.exists(m, m.destination == '/data' && m.read_only)", True),
        ("labels.exists(k, labels[k] == 'nobody')", False),
        ("'NET_BIND_SERVICE' in security.capabilities", False),
        ("creator.uid == null || creator.uid >= 0", True),
        ("params.registries.exists(r, image.registry == r)", True),
        ("listed(container_image_digest, 'known')", True),
        ("container_name.matches('^w.b$')", True),
    ],
)
def test_a_condition_is_true_or_false(text: str, answer: bool) -> None:
    env = Environment(
        {"known": frozenset({WEB.container_image_digest})}, {"registries": ["docker.io"]}
    )

    assert env.condition(text).holds(Facts(WEB)) is answer


def test_a_number_of_more_than_64_bits_is_as_much_as_there_is() -> None:
    """Found by the fuzzer: it ended the watch."""
    assert WEB.limits is not None
    limits = msgspec.structs.replace(WEB.limits, memory_bytes=1 << 64)
    huge = msgspec.structs.replace(WEB, limits=limits, ctime=-(1 << 70))
    condition = Environment().condition("limits.memory_bytes > 9000000000000000000 && ctime < 0")

    assert condition.holds(Facts(huge)) is True


@pytest.mark.parametrize(
    "text", ["1 / 0 == 1", "labels['nobody'] == ''", "params.x == 1", "!(1 / 0 == 1)", "params.x"]
)
def test_an_error_is_no_truth(text: str) -> None:
    assert isinstance(Environment().condition(text).holds(Facts(WEB)), Failed)


def test_every_field_of_an_event_is_a_variable() -> None:
    assert set(vocabulary.VARIABLES) == set(ContainerEvent.__struct_fields__)
    ended = msgspec.structs.replace(WEB, usage=Bill(duration_seconds=1.5))
    for path in vocabulary.PATHS:
        condition = Environment().condition(f"type({path}) != type(type(1))")
        assert condition.holds(Facts(ended)) is True, path


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("security.privilegd == true", "did you mean privileged?"),
        ("contaner_image == ''", "did you mean container_image?"),
        ("container_image == 1", "no matching overload"),
        ("container_image", "must be true or false"),
        ("image_match(container_image, 'x')", "did you mean image_matches?"),
        ("listed(container_image, 'nobody')", 'no list is called "nobody"'),
        ("listed(container_image, container_name)", "give the list's name as a text"),
        ("container_image ==", "Syntax error"),
        ("", "Syntax error"),
        ("true || " * 2_000 + "true", "longer than"),
        ("(" * 3_000, ""),
    ],
)
def test_what_is_wrong_is_said_when_it_is_made(text: str, says: str) -> None:
    with pytest.raises(CelError) as error:
        Environment().condition(text)

    assert says in str(error.value)


def test_a_regular_expression_takes_no_longer_than_its_text() -> None:
    name = msgspec.structs.replace(WEB, container_name="a" * 4096)
    condition = Environment().condition("container_name.matches('^(a+)+$')")
    began_s = time.process_time()

    assert condition.holds(Facts(name)) is True
    assert time.process_time() - began_s < 1  # a backtracking one takes longer than the universe


# --- what is not known ------------------------------------------------------------------------

LATE = missing(WEB, container_name=Missing.DEADLINE)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("container_name == 'web'", Unknown(("container_name",))),
        ("container_name == 'web' || runtime == 'containerd'", True),
        ("container_name == 'web' && runtime == 'docker'", False),
        ("runtime == 'docker' ? container_name == 'web' : true", True),
        ("runtime == 'containerd'", True),
    ],
)
def test_what_is_decided_without_an_unknown_field_is_decided(
    text: str, answer: bool | Unknown
) -> None:
    assert Environment().condition(text).holds(Facts(LATE)) == answer


def test_a_part_is_unknown_with_its_whole() -> None:
    no_bundle = msgspec.structs.replace(missing(WEB, security=Missing.DEADLINE), security=None)
    no_image = missing(WEB, container_image=Missing.DEADLINE, image_id=Missing.DEADLINE)
    condition = Environment().condition

    for text in ("security.privileged == true", "has_capability(security, 'SYS_ADMIN')"):
        assert isinstance(condition(text).holds(Facts(no_bundle)), Unknown)
    for text in ("image.registry == ''", "image.id == ''", "new_registry"):
        assert isinstance(condition(text).holds(Facts(no_image)), Unknown)


def test_what_there_is_nothing_to_know_of_is_known() -> None:
    built = missing(WEB, container_image_digest=Missing.NO_REGISTRY_DIGEST)
    built = msgspec.structs.replace(built, container_image_digest="")

    assert Environment().condition("container_image_digest == ''").holds(Facts(built)) is True


# --- helpers ----------------------------------------------------------------------------------


@given(st.text("ab*?", max_size=12), st.text("ab", max_size=12))
def test_glob_is_what_fnmatch_says(pattern: str, text: str) -> None:
    from fnmatch import fnmatchcase

    assert glob(text, pattern) == fnmatchcase(text, pattern)


@pytest.mark.parametrize(
    ("image", "pattern", "fits"),
    [
        ("docker.io/library/nginx:1.27", "nginx", True),
        ("docker.io/library/nginx:1.27", "nginx:1.27", True),
        ("docker.io/library/nginx:1.27", "nginx:1.28", False),
        ("docker.io/acme/nginx:1", "nginx", False),
        ("docker.io/acme/nginx:1", "acme/*", True),
        ("ghcr.io/acme/web:2", "ghcr.io/*", True),
        ("ghcr.io/acme/web:2", "*.io/acme/web", True),
        ("localhost:5000/web:1", "localhost:5000/web", True),
        ("evil.example/ghcr.io/acme/web:2", "ghcr.io/*", False),
        ("ghcr.io/acme/web@sha256:" + "a" * 64, "ghcr.io/acme/web@sha256:a*", True),
        ("ghcr.io/acme/web:2", "ghcr.io/acme/web@sha256:a*", False),
        ("", "*", False),
    ],
)
def test_an_image_fits_a_pattern_part_by_part(image: str, pattern: str, fits: bool) -> None:
    assert image_matches(image, pattern) is fits


@pytest.mark.parametrize(
    ("source", "path", "shows", "below"),
    [
        ("/", "/var/run/docker.sock", True, True),
        ("/var/run/docker.sock", "/var/run/docker.sock", True, True),
        ("/var/run/", "/var/run/docker.sock", True, True),
        ("/var/runx", "/var/run/docker.sock", False, False),
        ("/etc/shadow", "/etc", False, True),
        ("/srv/../etc", "/etc", True, True),
        ("//etc", "/etc", True, True),
    ],
)
def test_a_mount_shows_a_path(source: str, path: str, shows: bool, below: bool) -> None:
    mount = Mount(source=source, destination="/x", type="bind", read_only=True)
    assert WEB.security is not None
    security = msgspec.structs.replace(WEB.security, mounts=(mount,))
    event = msgspec.structs.replace(WEB, security=security)

    assert holds(f"mounts_host(security, '{path}')", event) is shows
    assert holds(f"mounts_below(security, '{path}')", event) is below


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("has_capability(security, 'NET_BIND_SERVICE')", True),
        ("has_capability(security, 'CAP_NET_BIND_SERVICE')", True),
        ("has_capability(security, 'SYS_ADMIN')", False),
        ("is_under('/etc/cron.d', ['/root', '/etc'])", True),
        ("is_under('/etc', ['/etc/'])", True),
        ("is_under('/etcetera', ['/etc'])", False),
        ("is_under('/x', ['/'])", True),
        ("is_above('/var/lib/', ['/var/lib/docker'])", True),
        ("is_above('/', ['/etc'])", True),
        ("is_above('/var/library', ['/var/lib/docker'])", False),
        ("security.mounts.exists(m, is_host_path(m) && is_under(m.source, ['/srv']))", True),
        ("glob(container_name, 'w*') && glob(container_name, '*b') && glob('a,b)', '*,*')", True),
        ("glob(container_name, 'web') && !glob(container_name, 'we')", True),
        ("glob(container_name, labels.size() == 9 ? 'x' : 'w?b')", True),
        ("'glob(container_name, )' != '' // glob(", True),
    ],
)
def test_a_helper_says(text: str, answer: bool) -> None:
    assert holds(text, WEB) is answer


def test_what_is_called_costs_no_memory() -> None:
    """The evaluator keeps what it gave to a function of ours: so there is none where it is much."""
    for text in ("has_capability(security, 'X')", "mounts_host(security, '/')"):
        condition, facts = Environment().condition(text), Facts(WEB)
        condition.holds(facts)
        gc.collect()
        before = len(gc.get_objects())
        for _ in range(1000):
            condition.holds(facts)
        gc.collect()
        assert len(gc.get_objects()) - before < 100


@pytest.mark.parametrize("text", ["is_under(" * 40 + "'/x', ['/'])", "has_capability(" * 9])
def test_a_call_that_never_ends_is_left_to_the_evaluator(text: str) -> None:
    with pytest.raises(CelError):
        Environment().condition(text)


def test_calls_in_each_other_are_bounded() -> None:
    deep = "'/x'"
    for _ in range(12):
        deep = f"(is_under({deep}, ['/']) ? {deep} : '/y')"
    with pytest.raises((CelError, ValueError)):
        expanded(deep)


# --- documents --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "p.yaml: no policy is in it"),
        ("- 1", "p.yaml:1: the document: a mapping is wanted here"),
        ("[" * 9_999, "p.yaml: more than 32"),
        ("a: &x [1]\nb: *x", "p.yaml:1: an alias"),
        ("a: 1\na: 2", 'p.yaml:2: "a" stands here twice'),
        ("a: !!python/name:os.system", "p.yaml:1: tag:yaml.org,2002:python/name:os.system"),
        ("a: [", "p.yaml:1: no YAML"),
        ("\x00", "no YAML"),
        ("x" * (600 << 10), "614,400 bytes"),
        (HEAD, "it has no rules"),
        (HEAD + "rules: []", "p.yaml:4: rules: there is no rule"),
        (HEAD + "rulez: []", "p.yaml:4: rulez: unknown; did you mean rules?"),
        (HEAD.replace("Policy", "Pod"), 'p.yaml:2: kind: "Pod": give one of Policy'),
        (HEAD.replace("p}", "P P}") + "rules: []", 'p.yaml:3: metadata.name: "P P"'),
        (HEAD + "rules:\n  - {name: r}", "p.yaml:5: rules[0]: a rule has either"),
        (HEAD + "rules:\n  - {name: r, require: 7}", "p.yaml:5: rules[0].require: a text"),
        (
            HEAD + "rules:\n  - {name: r, require: 'true'}\n  - {name: r, deny: 'true'}",
            "p.yaml:6: rules[1]: a rule called r is here already",
        ),
        (
            HEAD + "rules:\n  - name: r\n    deny: |\n      true &&\n      nobody == 1",
            "p.yaml:8: rules[0].deny: nothing is called nobody",
        ),
        (
            HEAD + "rules:\n  - {name: r, deny: 'true', message: '{imag}'}",
            "{imag} is no field of an event",
        ),
        (
            HEAD + "rules:\n  - {name: r, deny: 'true', for: 30s}",
            "p.yaml:5: rules[0].for: the rule reads no `usage`",
        ),
        (
            HEAD + "rules:\n  - name: r\n    deny: usage.pids > 9\n    for: 30",
            "p.yaml:7: rules[0].for: a text is wanted here",
        ),
        (
            HEAD + "rules:\n  - {name: r, deny: usage.pids > 9, for: 2d}",
            'p.yaml:5: rules[0].for: "2d": give a time as 30s or 5m, of at most a day',
        ),
        (
            HEAD + "rules:\n  - {name: r, deny: usage.pids > 9 && new_registry}",
            "p.yaml:5: rules[0]: new_registry is known at a birth only",
        ),
        (
            HEAD + "rules:\n  - {name: r, deny: \"usage.pids > 9 && glob(container_name, 'a*b')\"}",
            "p.yaml:5: rules[0]: glob: a rule on usage may call it in its `when` only",
        ),
        (
            HEAD + "rules:\n  - {name: r, deny: usage.cpu_coers > 9.0}",
            "did you mean usage.cpu_cores?",
        ),
        (
            HEAD + "rules:\n  - {name: r, deny: usage.cpu_cores > 9}",
            "write the number with a point (2.0)",
        ),
        (
            HEAD + "rules:\n  - {name: r, deny: 'true', message: '{usage.pids}'}",
            "{usage.pids}: the rule reads no `usage`",
        ),
        (
            HEAD + "rules:\n  - {name: r, deny: usage.pids > 9, message: '{usage.exit_code}'}",
            "{usage.exit_code} is no field of an event",
        ),
        (
            HEAD + "rules:\n  - {name: r, deny: 'true'}\n"
            "tests:\n  - {name: t, event: {}, expect: {}, usage: {pids: 0.5}}",
            "p.yaml:7: tests[0].usage.pids: a whole number",
        ),
        (
            HEAD + "rules:\n  - {name: r, deny: 'true'}\n"
            "tests:\n  - {name: t, event: {}, expect: {}, usage: {cpu_cores: .nan}}",
            "p.yaml:7: tests[0].usage.cpu_cores: a number",
        ),
        (
            HEAD + "rules:\n  - {name: r, deny: 'true'}\n"
            "tests:\n  - {name: t, event: {}, expect: {}, lasted: 5s}",
            "p.yaml:7: tests[0].lasted: of what? There is no usage",
        ),
        (HEAD + "lists: {a: nobody}\nrules: []", 'lists.a: "nobody" can\'t be read'),
        (
            HEAD + "rules:\n  - {name: r, deny: 'true'}\n"
            "tests:\n  - {name: t, event: {security: {privilegd: true}}, expect: {r: pass}}",
            "p.yaml:7: tests[0].event.security.privilegd: unknown; did you mean privileged?",
        ),
    ],
)
def test_what_is_wrong_with_a_document_is_said_with_its_line(text: str, says: str) -> None:
    def nobody(name: str) -> bytes:
        raise FileNotFoundError(2, "No such file or directory", name)

    with pytest.raises(InputError) as error:
        parse(text.encode(), "p.yaml", nobody)

    assert says in str(error.value)


@given(st.binary(max_size=200) | st.text(":[]{}-&*!|>'\"\n a1", max_size=60).map(str.encode))
def test_any_bytes_are_policies_or_a_named_error(text: bytes) -> None:
    with pytest.raises(InputError):
        parse(text, "p.yaml", lambda _: b"")


def test_a_list_has_a_line_for_each_and_comments() -> None:
    found = policies(
        "lists: {known: known.txt}\n"
        "rules:\n  - {name: r, require: \"listed(container_image_digest, 'known')\"}",
        {"known.txt": f"# approved\n{WEB.container_image_digest}  # nginx\n\n".encode()},
    )

    assert verdicts(Judge(found, 0), WEB) == []


def test_files_directories_and_names(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(HEAD + "rules:\n  - {name: r, deny: 'true'}")
    (tmp_path / "b.yaml").write_text(
        (HEAD + "rules:\n  - {name: r, deny: 'true'}").replace("{name: p}", "{name: q}")
    )

    assert [each.name for each in load([str(tmp_path)])] == ["p", "q"]
    assert [each.name for each in load([str(tmp_path / "b.yaml")])] == ["q"]
    assert [each.name for each in load(shipped())] == shipped()
    for sources in ([str(tmp_path), str(tmp_path / "a.yaml")], ["nobody"], ["/nobody.yaml"]):
        with pytest.raises(InputError):
            load(sources)


# --- judging ----------------------------------------------------------------------------------


def test_a_violation_says_what_it_is_of() -> None:
    judge = Judge(
        one_rule(
            "require: image.registry == 'ghcr.io'",
            severity="critical",
            tags="[T1610]",
            message="'{container_image} from {image.registry}, {init.pid}, {security.capabilities}'",
            action="kill",
        ),
        0,
    )
    ((violation, *_),) = judge.heard(WEB, 0)

    assert (violation.policy, violation.rule, violation.verdict) == ("p", "r", "violation")
    assert violation.message.startswith("docker.io/library/nginx:1.27 from docker.io, ")
    assert (violation.severity, violation.tags, violation.action) == (
        *("critical", ("T1610",), "kill"),
    )
    assert (violation.event_id, violation.container_id) == (WEB.id, WEB.container_id)
    assert judge.heard(WEB, 0)[0].violation.id == violation.id, "stable"


def test_a_rule_is_not_asked_where_it_does_not_apply() -> None:
    judge = Judge(one_rule("deny: 'true'", when="'pod_sandbox'"), 0)

    assert verdicts(judge, WEB) == []
    assert verdicts(judge, msgspec.structs.replace(WEB, pod_sandbox=True)) == ["violation"]


def test_an_error_is_a_verdict() -> None:
    for judge in (
        Judge(one_rule("require: labels['nobody'] == 'x'"), 0),
        Judge(one_rule("deny: labels['nobody'] == 'x'"), 0),
        Judge(one_rule("deny: 'true'", when="labels['nobody'] == 'x'"), 0),
    ):
        ((violation, *_),) = judge.heard(WEB, 0)
        assert violation.verdict == "error"
        assert "nobody" in violation.message


def test_only_births_are_judged() -> None:
    judge = Judge(one_rule("deny: 'true'"), 0)

    for name in ("container_start", "container_update", "container_remove"):
        assert judge.heard(msgspec.structs.replace(WEB, event=name), 0) == []
    assert verdicts(judge, msgspec.structs.replace(WEB, event="existing_container")) == [
        "violation"
    ]


def waiting() -> Judge:
    judge = Judge(one_rule("require: container_name == 'web'"), 2 * S)
    assert judge.heard(missing(WEB, container_name=Missing.DEADLINE), 0) == []
    assert judge.due_ns == 2 * S
    return judge


def update(**changes: object) -> ContainerEvent:
    return msgspec.structs.replace(
        WEB, event="container_update", id=f"{WEB.id}-update-1", **changes
    )


@pytest.mark.parametrize(
    ("then", "says"),
    [
        (lambda judge: judge.heard(update(), S), []),
        (lambda judge: judge.heard(update(container_name="evil"), S), ["violation"]),
        (lambda judge: judge.overdue(2 * S), ["undecided"]),
        (
            lambda judge: judge.heard(
                msgspec.structs.replace(
                    missing(WEB, container_name=Missing.DEADLINE),
                    event="container_remove",
                    id=f"{WEB.id}-remove",
                ),
                S,
            ),
            ["undecided"],
        ),
    ],
    ids=["passes", "breaks", "too-late", "gone"],
)
def test_a_rule_waits_for_what_it_lacks(
    then: Callable[[Judge], list[Breach]], says: list[str]
) -> None:
    judge = waiting()

    found = then(judge)

    assert [each.violation.verdict for each in found] == says
    assert judge.due_ns is None
    assert judge.overdue(9 * S) == []
    assert all(each.violation.event_id == each.event.id == WEB.id for each in found)


def test_a_start_does_not_end_the_waiting() -> None:
    judge = waiting()

    assert judge.heard(msgspec.structs.replace(LATE, event="container_start"), S) == []
    assert judge.due_ns == 2 * S
    assert judge.overdue(S) == []


def test_only_so_many_wait() -> None:
    judge = Judge(one_rule("require: container_name == 'web'"), 2 * S)
    late = missing(WEB, container_name=Missing.DEADLINE)
    told = [
        breach.violation
        for number in range(10_050)
        for breach in judge.heard(msgspec.structs.replace(late, id=f"{number:x}"), 0)
    ]

    assert [each.verdict for each in told] == ["undecided"] * 50
    assert len(judge.overdue(2 * S)) == 10_000


def test_a_registry_is_new_once() -> None:
    judge = Judge(one_rule("deny: new_registry"), 0)
    stranger = msgspec.structs.replace(WEB.image, registry="evil.example")

    assert verdicts(judge, msgspec.structs.replace(WEB, event="existing_container")) == [
        "violation"
    ]
    assert verdicts(judge, WEB) == []
    assert verdicts(judge, msgspec.structs.replace(WEB, image=stranger)) == ["violation"]
    assert verdicts(judge, msgspec.structs.replace(WEB, image=stranger)) == []


@pytest.mark.parametrize("name", shipped())
def test_a_policy_that_ships_says_what_its_tests_expect(name: str) -> None:
    (policy,) = load([name])
    assert policy.tests
    for test in policy.tests:
        found = {rule.name: expected(rule, test) for rule in policy.rules}
        assert {rule: found[rule] for rule in test.expect} == test.expect, test.name
