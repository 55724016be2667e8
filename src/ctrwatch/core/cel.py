"""
Conditions in CEL over a container's event: checked when they are made, then judged.

Pure. The language: cel.dev; the evaluator is Google's C++ one (cel-expr-python), whose
`matches` is RE2: linear in its input. It returns errors as values that are true in Python;
here they are `Failed`.

What nobody could tell of a container is left out of the variables: then CEL's own logic
decides (`true || unknown` is true), and what it can't decide is `Unknown`.

Each figure of a container's use (core/figures.py) is a variable of its own, `usage.cpu_cores`: what
is not known of one says nothing of another.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Set as AbstractSet
from typing import Any, Final, NamedTuple

from cel_expr_python import cel

from ctrwatch.core import syntax, vocabulary
from ctrwatch.core.figures import FIGURES, LIMITS, PREFIX, Figures
from ctrwatch.core.helpers import HELPERS
from ctrwatch.core.macros import expanded
from ctrwatch.event import ContainerEvent

__all__ = ("CelError", "Condition", "Environment", "Facts", "Failed", "Unknown")

_LONGEST: Final = 10_000  # characters of an expression: the longest that ships has 500
_LISTED: Final = "listed"
_FUNCTIONS: Final = (
    *("size", "matches", "startsWith", "endsWith", "contains"),
    *("exists", "exists_one", "all", "has"),
)
_EXTRA: Final = {
    # Known to whoever judges, not to the event.
    "new_registry": cel.Type.BOOL,
    "params": cel.Type.DYN,
}
# They are known when the image's name is.
_WITH: Final = dict.fromkeys(
    ("image", "image.registry", "image.repository", "image.tag", "new_registry"),
    "container_image",
)
_WRONG: Final = re.compile(r"ERROR: <input>:(\d+):(\d+): (.*)")
_UNDECLARED: Final = re.compile(r"undeclared reference to '([^']*)'")
_USE: Final = PREFIX.removesuffix(".")
_FRACTION: Final = re.compile(r"no matching overload for .*\b(double|int)\b.*\b(double|int)\b")
_NO_FIELD: Final = re.compile(r"undefined field '([^']*)' not found in struct 'ctrwatch\.(\w+)'")


class CelError(ValueError):
    """An expression that can't be used; `line` counts from 1 in the expression."""

    def __init__(self, what: str, line: int = 1) -> None:
        super().__init__(what)
        self.line = line


class Unknown(NamedTuple):
    """Nothing can be decided without these fields, which nobody could tell so far."""

    fields: tuple[str, ...]


class Failed(NamedTuple):
    """The expression went wrong on this event."""

    why: str


VARIABLE_NAMES: Final = frozenset(vocabulary.VARIABLES)


class Facts:
    """
    An event as conditions see it. Made once for all of them.

    *figures*: what is known of the container's use, at a look; None: it was not looked at. *names*:
    the variables that are read, if not all of them.
    """

    def __init__(
        self,
        event: ContainerEvent,
        *,
        new_registry: bool = False,
        figures: Figures | None = None,
        names: AbstractSet[str] = VARIABLE_NAMES,
    ) -> None:
        self.unknown = vocabulary.unknown(event)
        self._values = vocabulary.values(event, names)
        self._values["new_registry"] = new_registry
        null = names - self._values.keys()
        self.unknown |= null
        for name in self.unknown & self._values.keys():
            del self._values[name]
        if figures is not None:
            self.unknown = (self.unknown - {_USE}) | (FIGURES.keys() - figures.keys())
            self._values.pop(_USE, None)
            self._values.update(figures)

    def without(self, names: Iterable[str], params: object) -> dict[str, Any]:
        values = {name: value for name, value in self._values.items() if name not in set(names)}
        return {**values, "params": params}


_KINDS: Final = {int: cel.Type.INT, float: cel.Type.DOUBLE}
# Of a container that lives: its use instead of its bill. A limit may be null, which no plain type is.
_LIVING: Final = {
    **{name: type_ for name, type_ in vocabulary.VARIABLES.items() if name != _USE},
    **{name: _KINDS[kind] for name, kind in FIGURES.items()},
    **dict.fromkeys(LIMITS, cel.Type.DYN),
}


class Condition:
    """An expression that is true or false of an event."""

    def __init__(self, text: str, compiled: Any, env: Environment) -> None:
        self.text = text
        self._compiled, self._env = compiled, env
        self.paths = frozenset(
            path
            for path in syntax.paths(compiled.serialize())
            if path.partition(".")[0] in VARIABLE_NAMES or path in _WITH
        )

    @property
    def calls(self) -> frozenset[str]:
        """Functions of ours that it calls, each time that it is asked: see core/macros.py."""
        called = {call.function for call in syntax.calls(self._compiled.serialize())}
        return frozenset(called & {_LISTED, *HELPERS})

    @property
    def says(self) -> tuple[object, ...]:
        """What decides beside the event: its text, and the policy's own values that it reads."""
        return self.text, *self._env.given(self._compiled.serialize())

    @property
    def names(self) -> frozenset[str]:
        """The event's fields that it reads, as a whole or in part."""
        return frozenset(path.partition(".")[0] for path in self.paths) & VARIABLE_NAMES - {_USE}

    @property
    def reads_use(self) -> bool:
        """It can only be told at a look at what the container uses."""
        return any(path.startswith(PREFIX) for path in self.paths)

    def holds(self, facts: Facts) -> bool | Unknown | Failed:
        """Never raises."""
        lacking = self._lacking(facts.unknown)
        # A figure that is not known has no value anyway.
        parts = {path.partition(".")[0] for path in lacking if path not in FIGURES}
        try:
            value = self._compiled.eval(self._env.activation(facts, parts))
            answer, is_bool = value.value(), value.type() == cel.Type.BOOL
        except Exception as error:  # noqa: BLE001 - of a C++ library, on a stranger's words
            answer, is_bool = str(error), False
        if is_bool and isinstance(answer, bool):
            return answer
        return Unknown(tuple(sorted(lacking))) if lacking else Failed(str(answer)[:500])

    def _lacking(self, unknown: AbstractSet[str]) -> set[str]:
        """Of the fields that it reads those that are unknown, whole or in part."""
        if not unknown:
            return set()
        return {
            path
            for path in self.paths
            if path in unknown
            or path.partition(".")[0] in unknown
            or _WITH.get(path) in unknown
            or any(each.startswith(f"{path}.") for each in unknown)
        }


class Environment:
    """
    Where expressions are compiled: the event's variables, the helpers, a policy's own lists.

    *lists*: by name, for `listed(value, "name")`. *params*: the policy's parameters. *figures*:
    `usage` is what a container uses at a look, and not the bill in its last event.
    """

    def __init__(
        self,
        lists: Mapping[str, frozenset[str]] | None = None,
        params: Mapping[str, object] | None = None,
        *,
        figures: bool = False,
    ) -> None:
        self._lists, self._params = lists or {}, dict(params or {})
        self._variables = {**(_LIVING if figures else vocabulary.VARIABLES), **_EXTRA}
        self._env = cel.NewEnv(
            vocabulary.POOL,
            variables=self._variables,
            functions=[*_HELPERS, _function(_LISTED, ("string", "string"), self._listed)],
        )  # every helper is declared in it, for its types; those of core/macros.py are never called
        self._last: tuple[Facts, frozenset[str], Any] | None = None

    def condition(self, text: str) -> Condition:
        """Raises CelError, with a suggestion where something is misspelt."""
        if len(text) > _LONGEST:
            raise CelError(f"longer than {_LONGEST:,} characters")
        try:
            compiled = self._env.compile(text)
        except (RuntimeError, TypeError, ValueError) as error:
            raise _explained(str(error), self._variables) from None
        if compiled.return_type() not in (cel.Type.BOOL, cel.Type.DYN):
            name = compiled.return_type().name().lower()
            raise CelError(f"it is of type {name}, and must be true or false (bool)")
        self._check_lists(compiled.serialize())
        try:
            written = expanded(text)
            running = compiled if written == text else self._env.compile(written)
        except (RuntimeError, ValueError) as error:
            raise CelError(str(error)[:300]) from None
        return Condition(text, running, self)

    def given(self, serialized: bytes) -> tuple[Mapping[str, object], Mapping[str, object]]:
        """The parameters and the lists that an expression reads."""
        paths = syntax.paths(serialized)
        lists = {call.texts[1] for call in syntax.calls(serialized) if call.function == _LISTED}
        return (
            {
                name: value
                for name, value in self._params.items()
                if any(
                    f"{path}.".startswith(f"params.{name}.") or path == "params" for path in paths
                )
            },
            {name: entries for name, entries in self._lists.items() if name in lists},
        )

    def activation(self, facts: Facts, parts: Iterable[str]) -> Any:
        """The variables of *facts*, kept for the next condition."""
        key = frozenset(parts)
        if self._last is None or self._last[0] is not facts or self._last[1] != key:
            made = self._env.Activation(facts.without(key, self._params))
            self._last = facts, key, made
        return self._last[2]

    def _listed(self, value: str, name: str) -> bool:
        return value in self._lists[name]

    def _check_lists(self, serialized: bytes) -> None:
        for call in syntax.calls(serialized):
            if call.function != _LISTED:
                continue
            name = call.texts[1]
            if name is None:
                raise CelError(f"{_LISTED}(value, name): give the list's name as a text")
            if name not in self._lists:
                near = _nearest(name, self._lists)
                raise CelError(
                    f'no list is called "{name}"{near}: the policy names them in `lists`'
                )


def _function(name: str, arguments: tuple[str, ...], does: Callable[..., bool] | None) -> Any:
    types = {"string": cel.Type.STRING, "list": cel.Type.List(cel.Type.STRING)}
    taken = [types.get(each) or cel.Type(f"ctrwatch.{each}") for each in arguments]
    overload = cel.Overload(f"ctrwatch_{name}", cel.Type.BOOL, taken, False, does or _replaced)  # noqa: FBT003
    return cel.FunctionDecl(name, [overload])


def _replaced(*_: object) -> bool:
    raise AssertionError("a macro stands for it")


_HELPERS: Final = [
    _function(name, helper.arguments, helper.does) for name, helper in HELPERS.items()
]


def _explained(text: str, variables: Iterable[str]) -> CelError:
    """The evaluator's first complaint, in a sentence."""
    found = _WRONG.search(text)
    if found is None:
        return CelError(text.partition("\n")[0][:300])
    line, column, what = int(found[1]), int(found[2]), found[3].removesuffix(" [INVALID_ARGUMENT]")
    if name := _UNDECLARED.search(what):
        known = (*variables, *HELPERS, _LISTED, *_FUNCTIONS)
        what = f"nothing is called {name[1]}{_nearest(name[1], known)}"
    elif field := _NO_FIELD.search(what):
        fields = vocabulary.FIELDS[field[2]]
        what = f"{field[2].lower()} has no field {field[1]}{_nearest(field[1], fields)}"
    elif (kinds := _FRACTION.search(what)) and kinds[1] != kinds[2]:
        what += "; write the number with a point (2.0) beside a figure that has one"
    return CelError(f"{what[:400]} (column {column})", line)


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, [*known], n=1)
    return f"; did you mean {near[0]}?" if near else ""
