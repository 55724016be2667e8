"""
The configuration file: TOML in, a `Configuration` out, or an InputError that names file and key.

Pure. `Configuration` is the table of all keys: a new one is a field with its type, what a
right value is in words, and whether it takes a restart. What the file does not say is None;
so is what the command line does not, which is written as a `Configuration` too.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeVar, get_args, get_type_hints

import msgspec
from msgspec import Meta, Struct, field

from ctrwatch.core.text import clean
from ctrwatch.errors import InputError

__all__ = (
    "BYTES_MAX",
    "CONTAINERS_MAX",
    "DEFAULT",
    "KEYS",
    "SOCKETS_MAX",
    "Configuration",
    "FormatName",
    "Key",
    "Output",
    "SensorName",
    "Sockets",
    "changed",
    "overlaid",
    "parse",
    "said",
)

BYTES_MAX: Final = 1 << 20  # the example, with every key explained, has three thousand
_SHOWN: Final = 80  # characters of a wrong value, or of a key
_TYPED: Final = 64  # characters of a key that another is looked for: that takes the square of it

_T = TypeVar("_T", bound=Struct)

_RESTART: Final = {"restart": True}
_Path = Annotated[
    str, Meta(pattern=r"\A/[^\0]*\Z", max_length=4095, description="an absolute path")
]
_Seconds = Annotated[float, Meta(ge=0, le=60, description="seconds from 0 to 60")]
_Beat = Annotated[
    float,
    Meta(
        ge=0,
        le=86_400,
        description="seconds from 1 to 86400, or 0",
        extra={"holds": lambda seconds: seconds == 0 or seconds >= 1},
    ),
]
_AGES: Final = 16  # at which usage is told; each is an event of every container
_Every = Annotated[float, Meta(ge=1, le=86_400, description="seconds from 1 to 86400")]
_Ages = Annotated[
    tuple[_Every, ...],
    Meta(
        max_length=_AGES, description=f"a list of at most {_AGES} ages, in seconds from 1 to 86400"
    ),
]
# Each is seven series. To write those of 300 takes 15 ms, in which no birth is told; one has 20 ms
# until its first instruction.
CONTAINERS_MAX: Final = 300
_Containers = Annotated[
    int,
    Meta(ge=0, le=CONTAINERS_MAX, description=f"a number from 0 to {CONTAINERS_MAX}"),
]
_Bool = Annotated[bool, Meta(description="true or false")]
FormatName = Literal["text", "json", "tracee"]
SensorName = Literal["auto", "ebpf", "fanotify"]
_Format = Annotated[FormatName, Meta(description='"text", "json" or "tracee"')]
_Sensor = Annotated[SensorName, Meta(description='"auto", "ebpf" or "fanotify"')]
_Address = Annotated[
    str,
    Meta(
        min_length=1, max_length=4095, description='an address as "127.0.0.1:9470" or "unix:/PATH"'
    ),
]
SOCKETS_MAX: Final = 64  # of one kind: of as many daemons the state is kept (evidence/asking.py)
_Paths = Annotated[
    tuple[_Path, ...],
    Meta(max_length=SOCKETS_MAX, description=f"a list of at most {SOCKETS_MAX} absolute paths"),
]


class Sockets(Struct, frozen=True, kw_only=True):
    """Of daemons in unusual places."""

    docker: _Paths | None = None
    containerd: _Paths | None = None
    cri: _Paths | None = None


class Output(Struct, frozen=True, kw_only=True):
    """The lines: in which format, and the file that they are appended to."""

    format: _Format | None = None
    path: _Path | None = None


class Configuration(Struct, frozen=True, kw_only=True):
    """Every key; packaging/ctrwatch.toml explains them."""

    wait: _Seconds | None = None
    existing: Annotated[_Bool | None, Meta(extra=_RESTART)] = None
    raw: Annotated[_Bool | None, Meta(extra=_RESTART)] = None
    record: Annotated[_Path | None, Meta(extra=_RESTART)] = None
    sensor: Annotated[_Sensor | None, Meta(extra=_RESTART)] = None
    state: Annotated[_Path | None, Meta(extra=_RESTART)] = None
    audit: Annotated[_Beat | None, Meta(extra=_RESTART)] = None
    metrics: Annotated[_Address | None, Meta(extra=_RESTART)] = None
    metrics_containers: Annotated[_Containers | None, Meta(extra=_RESTART)] = None
    usage: Annotated[_Bool | None, Meta(extra=_RESTART)] = None
    usage_at: Annotated[_Ages | None, Meta(extra=_RESTART)] = None
    usage_every: Annotated[_Every | None, Meta(extra=_RESTART)] = None
    sockets: Sockets = field(default_factory=Sockets)
    output: Output = field(default_factory=Output)


# What holds where nobody says anything, as in config.Settings.
DEFAULT: Final = Configuration(
    wait=2.0,
    existing=True,
    raw=False,
    sensor="auto",
    audit=600.0,
    metrics_containers=0,
    usage=False,
    usage_at=(10.0, 60.0),
    usage_every=60.0,
    sockets=Sockets(docker=(), containerd=(), cri=()),
)


class Key(NamedTuple):
    """A key's type, what a right value is, and what is done when it changes."""

    type: Any
    right: str  # "not …" is said of a wrong one
    holds: Callable[[Any], bool]  # what the type can't say
    restart: bool  # it is read at the start only


def parse(raw: bytes, name: str) -> Configuration:
    """What the file *name* with this content says. Raises InputError, naming file and key or line."""
    if len(raw) > BYTES_MAX:
        raise InputError(f"{name}: larger than {BYTES_MAX >> 20} MB")
    return _of_table(_Reading(name), Configuration, _toml(raw, name))


def overlaid(over: _T, under: _T) -> _T:
    """What *over* says; where it says nothing, what *under* does."""
    values: dict[str, Any] = {}
    for each in over.__struct_fields__:
        above, below = getattr(over, each), getattr(under, each)
        if isinstance(above, Struct):
            values[each] = overlaid(above, below)
        else:
            values[each] = below if above is None else above
    return type(over)(**values)


def changed(before: Configuration, after: Configuration) -> list[str]:
    """The keys that have another value, in the order of the table."""
    old, new = said(before), said(after)
    return [key for key in KEYS if old.get(key) != new.get(key)]


def said(value: Struct, prefix: str = "") -> dict[str, Any]:
    """The keys that are set, with their values."""
    values: dict[str, Any] = {}
    for each in value.__struct_fields__:
        one = getattr(value, each)
        if isinstance(one, Struct):
            values |= said(one, f"{prefix}{each}.")
        elif one is not None:
            values[prefix + each] = one
    return values


# --- the table --------------------------------------------------------------------------


def _metas(type_: Any) -> Iterator[Meta]:
    """Outermost first: of `Annotated[Annotated[X, a] | None, b]` b, then a."""
    for each in getattr(type_, "__metadata__", ()):
        yield each
    inner = get_args(type_)[0] if hasattr(type_, "__metadata__") else type_
    for each in get_args(inner):
        if hasattr(each, "__metadata__"):
            yield from each.__metadata__


def _keys(struct: type[Struct], prefix: str = "") -> Iterator[tuple[str, Key]]:
    for name, type_ in get_type_hints(struct, include_extras=True).items():
        if isinstance(type_, type) and issubclass(type_, Struct):
            yield from _keys(type_, f"{prefix}{name}.")
            continue
        right, extra = "right", dict[str, Any]()
        for meta in _metas(type_):
            right = meta.description or right
            extra |= meta.extra or {}
        holds = extra.get("holds", lambda _: True)
        yield prefix + name, Key(type_, right, holds, extra.get("restart", False))


KEYS: Final[Mapping[str, Key]] = dict(_keys(Configuration))  # `sockets.docker` is one


# --- one file -----------------------------------------------------------------------------


class _Reading(NamedTuple):
    """Where it stands, for what is wrong."""

    name: str
    prefix: str = ""

    def error(self, key: str, what: str) -> InputError:
        return InputError(f"{self.name}: {clean(self.prefix + key, _SHOWN)}: {what}")


def _toml(raw: bytes, name: str) -> dict[str, Any]:
    try:
        return tomllib.loads(raw.decode())
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise InputError(f"{name}:{line}: not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        what, _, place = str(error).rpartition(" (at ")
        found = re.match(r"line (\d+), column (\d+)\)", place)
        # "At end of document", which may have ended with its last line.
        line = int(found[1]) if found else len(raw.splitlines()) or 1
        column = f" (column {found[2]})" if found else ""
        raise InputError(f"{name}:{line}: {clean(what, _SHOWN)}{column}") from None
    except RecursionError:
        raise InputError(f"{name}: nested too deeply") from None
    except ValueError:  # int() takes 4,300 digits
        raise InputError(f"{name}: a number is too long, or a date is none") from None


def _of_table(reading: _Reading, struct: type[_T], table: Mapping[str, Any]) -> _T:
    values: dict[str, Any] = {}
    types = get_type_hints(struct)
    for name, value in table.items():
        if name not in types:
            raise reading.error(name, f"no such key{_meant(reading.prefix + name)}")
        type_ = types[name]
        if isinstance(type_, type) and issubclass(type_, Struct):
            if not isinstance(value, dict):
                raise reading.error(name, f"not a table: {_shown(value)}")
            below = _Reading(reading.name, f"{reading.prefix}{name}.")
            values[name] = _of_table(below, type_, value)
        else:
            values[name] = _of_key(reading, name, value)
    return struct(**values)


def _of_key(reading: _Reading, name: str, value: Any) -> Any:
    key = KEYS[reading.prefix + name]
    try:
        right = msgspec.convert(value, key.type)
    except msgspec.ValidationError as error:
        item = re.search(r" - at `\$\[(\d+)\]`$", str(error))
        if item is not None:
            value, right = value[int(item[1])], _of_items(key.right)
            raise reading.error(name, f"not {right}: {_shown(value)}") from None
    else:
        if key.holds(right):
            return right
    raise reading.error(name, f"not {key.right}: {_shown(value)}")


def _of_items(right: str) -> str:
    """What one entry of a list is: "a list of at most 64 absolute paths" is said of all."""
    return "an absolute path" if right.endswith("paths") else "an age in seconds from 1 to 86400"


def _meant(typed: str) -> str:
    """Of `sockets.dokcer`, or of `docker` where its table was forgotten."""
    if len(typed) > _TYPED:
        return ""
    tables = {key.partition(".")[0]: key.partition(".")[0] for key in KEYS}
    last = {key.rpartition(".")[2]: key for key in KEYS}
    name = typed.rpartition(".")[2]
    if name in last:
        return f"; did you mean {last[name]}?"
    for choices in ({key: key for key in KEYS} | tables, last):
        if found := difflib.get_close_matches(typed, choices, n=1):
            return f"; did you mean {choices[found[0]]}?"
    return ""


def _shown(value: Any) -> str:
    match value:
        case str():
            return clean(msgspec.json.encode(value[:_SHOWN]).decode(), _SHOWN)
        case bool():
            return str(value).lower()
        case list():
            return "a list"
        case dict():
            return "a table"
        case int() if value.bit_length() > 64:
            return "a number too large"
    return str(value)
