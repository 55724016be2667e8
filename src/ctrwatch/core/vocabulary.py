"""
The variables of policies: a container's event as CEL sees it.

Pure. They are made from the event's own types (event.py), as protobuf messages, so that a
misspelt field is an error when a policy is loaded. A number or a truth that may be unknown
is a wrapper (google/protobuf/wrappers.proto): it can be compared with `null`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final

import msgspec
from cel_expr_python import cel
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, wrappers_pb2
from msgspec import inspect

from ctrwatch.core.mounts import is_host_path, plain
from ctrwatch.event import ContainerEvent
from ctrwatch.model import FINAL, Mount

__all__ = ("FIELDS", "PATHS", "POOL", "VARIABLES", "inner", "text_at", "unknown", "values")

_PACKAGE: Final = "ctrwatch"
_WRAPPERS: Final = {int: "Int64Value", float: "DoubleValue", bool: "BoolValue"}
_SCALARS: Final = {int: 3, float: 1, bool: 8, str: 9}  # FieldDescriptorProto.Type
_CEL: Final = {
    int: cel.Type.INT,
    float: cel.Type.DOUBLE,
    bool: cel.Type.BOOL,
    str: cel.Type.STRING,
}
_MESSAGE, _OPTIONAL, _REPEATED = 11, 1, 3  # FieldDescriptorProto.Type, .Label


def _bare(type_: inspect.Type) -> tuple[inspect.Type, bool]:
    """A field's type without its null, and whether it may be null."""
    if isinstance(type_, inspect.Metadata):
        return _bare(type_.type)
    if isinstance(type_, inspect.UnionType):
        inner = [each for each in type_.types if not isinstance(each, inspect.NoneType)]
        return _bare(inner[0])[0], len(inner) < len(type_.types)
    return type_, False


def _scalar(type_: inspect.Type) -> type | None:
    match type_:
        case inspect.StrType() | inspect.EnumType():
            return str
        case inspect.LiteralType(values=values):
            return type(values[0])
        case inspect.BoolType():
            return bool
        case inspect.IntType():
            return int
        case inspect.FloatType():
            return float
        case _:
            return None


def _fields(struct: type) -> dict[str, tuple[inspect.Type, bool]]:
    described = inspect.type_info(struct)
    if not isinstance(described, inspect.StructType):
        raise TypeError(struct)
    fields = {field.name: _bare(field.type) for field in described.fields}
    return {**fields, "host_path": (inspect.BoolType(), False)} if struct is Mount else fields


class _Messages:
    """The event's types as protobuf messages."""

    def __init__(self, root: type) -> None:
        self.pool = descriptor_pool.DescriptorPool()
        wrappers = descriptor_pb2.FileDescriptorProto()
        wrappers_pb2.DESCRIPTOR.CopyToProto(wrappers)
        self.pool.Add(wrappers)
        self._file = descriptor_pb2.FileDescriptorProto(
            name="ctrwatch/event.proto",
            package=_PACKAGE,
            syntax="proto3",
            dependency=[wrappers.name],
        )
        self._fields: dict[str, dict[str, tuple[inspect.Type, bool]]] = {}
        self._message(root)
        self.pool.Add(self._file)
        self.types = self._fields.__getitem__
        self.fields = {name: tuple(fields) for name, fields in self._fields.items()}

    def _message(self, struct: type) -> str:
        name = struct.__name__
        if name not in self._fields:
            self._fields[name] = _fields(struct)
            message = descriptor_pb2.DescriptorProto(name=name)
            for number, (field, (type_, nullable)) in enumerate(self._fields[name].items(), 1):
                made = message.field.add(name=field, number=number, label=_OPTIONAL)
                self._give_type(message, made, type_, nullable=nullable)
            self._file.message_type.append(message)
        return f".{_PACKAGE}.{name}"

    def _give_type(
        self,
        message: descriptor_pb2.DescriptorProto,
        field: descriptor_pb2.FieldDescriptorProto,
        type_: inspect.Type,
        *,
        nullable: bool,
    ) -> None:
        scalar = _scalar(type_)
        if scalar is not None and not nullable:
            field.type = _SCALARS[scalar]  # type: ignore[assignment]
            return
        if isinstance(type_, inspect.VarTupleType):
            field.label = _REPEATED  # type: ignore[assignment]
            self._give_type(message, field, _bare(type_.item_type)[0], nullable=False)
            return
        field.type = _MESSAGE  # type: ignore[assignment]
        if scalar is not None:
            field.type_name = f".google.protobuf.{_WRAPPERS[scalar]}"
        elif isinstance(type_, inspect.StructType):
            field.type_name = self._message(type_.cls)
        else:  # from strings to strings: the event has no other maps
            entry = message.nested_type.add(name=f"{field.name.capitalize()}Entry")
            entry.options.map_entry = True
            entry.field.add(name="key", number=1, label=_OPTIONAL, type=_SCALARS[str])
            entry.field.add(name="value", number=2, label=_OPTIONAL, type=_SCALARS[str])
            field.label = _REPEATED  # type: ignore[assignment]
            field.type_name = f".{_PACKAGE}.{message.name}.{entry.name}"

    def classes(self) -> dict[str, Callable[..., Any]]:
        names = ((name, f"{_PACKAGE}.{name}") for name in self.fields)
        find = self.pool.FindMessageTypeByName
        return {name: message_factory.GetMessageClass(find(full)) for name, full in names}


def _cel_type(type_: inspect.Type) -> cel.Type:
    if isinstance(type_, inspect.StructType):
        return cel.Type(f"{_PACKAGE}.{type_.cls.__name__}")
    if isinstance(type_, inspect.VarTupleType):
        return cel.Type.List(_cel_type(_bare(type_.item_type)[0]))
    scalar = _scalar(type_)
    if scalar is None:
        return cel.Type.Map(cel.Type.STRING, cel.Type.STRING)
    return _CEL[scalar]


def _paths() -> Iterator[str]:
    for name, (type_, _) in _EVENT.items():
        yield name
        if isinstance(type_, inspect.StructType):
            yield from (f"{name}.{inner}" for inner in FIELDS[type_.cls.__name__])


_MESSAGES: Final = _Messages(ContainerEvent)
_CLASSES: Final = _MESSAGES.classes()
_EVENT: Final = _fields(ContainerEvent)
POOL: Final = _MESSAGES.pool
FIELDS: Final = _MESSAGES.fields  # of each message, by its name
VARIABLES: Final = {name: _cel_type(type_) for name, (type_, _) in _EVENT.items()}
PATHS: Final = frozenset(_paths())  # every field of the event, dotted


def inner(name: str) -> tuple[str, ...]:
    """The fields of the event's field *name*; () where it has none."""
    type_, _ = _EVENT[name]
    return FIELDS[type_.cls.__name__] if isinstance(type_, inspect.StructType) else ()


def unknown(event: ContainerEvent) -> frozenset[str]:
    """The fields, dotted, that nobody could tell: not those of which there is nothing to know."""
    missing = event.evidence.missing.items()
    return frozenset(field for field, reason in missing if reason not in FINAL)


def values(event: ContainerEvent, names: Iterable[str] = VARIABLES) -> dict[str, Any]:
    """A value for each variable of *names* but those that are null as a whole: these are unknown."""
    found = {}
    for name in names:
        type_, _ = _EVENT[name]
        value = getattr(event, name)
        if value is None:
            continue
        if isinstance(type_, inspect.StructType):
            found[name] = _message(type_.cls, value)
        elif isinstance(value, tuple):
            found[name] = list(value)
        elif _scalar(type_) is str:
            found[name] = str(value)
        else:
            found[name] = _bounded(value)
    return found


def _mounts(mount: Mount, name: str) -> object:
    """A mount's fields: `host_path` is ours, and the host's path of a bind mount is normalised."""
    if name == "host_path":
        return is_host_path(mount)
    if name == "source" and mount.type == "bind":
        return plain(mount.source)
    return getattr(mount, name)


def _bounded(value: Any) -> Any:
    """CEL's numbers have 64 bits; a bundle's may have more, and mean "as much as there is"."""
    if isinstance(value, int) and not isinstance(value, bool):
        return max(-(1 << 63), min(value, (1 << 63) - 1))
    return value


def _message(struct: type, value: msgspec.Struct) -> Any:
    return _CLASSES[struct.__name__](**_arguments(_fields_of(struct), value))


def _fields_of(struct: type) -> Mapping[str, tuple[inspect.Type, bool]]:
    return _MESSAGES.types(struct.__name__)


def _arguments(
    fields: Mapping[str, tuple[inspect.Type, bool]], value: msgspec.Struct
) -> dict[str, Any]:
    """Of a message's constructor; what is null is left out."""
    found: dict[str, Any] = {}
    for name, (type_, nullable) in fields.items():
        part = _mounts(value, name) if isinstance(value, Mount) else getattr(value, name)
        if part is None or part in ((), "", {}):
            continue  # what protobuf takes for absent
        part = _bounded(part)
        if isinstance(type_, inspect.VarTupleType):
            item = _bare(type_.item_type)[0]
            if isinstance(item, inspect.StructType):
                part = [_arguments(_fields_of(item.cls), each) for each in part]
        elif nullable and _scalar(type_) is not None:
            part = {"value": part}
        elif isinstance(type_, inspect.StructType):
            part = _arguments(_fields_of(type_.cls), part)
        elif isinstance(type_, inspect.DictType):
            part = {str(key): str(each) for key, each in part.items()}
        found[name] = part
    return found


def text_at(event: ContainerEvent, path: str) -> str:
    """What a message of a rule says for the field *path*; "?" for what is null."""
    value: Any = event
    for part in path.split("."):
        value = getattr(value, part) if value is not None else None
    if isinstance(value, tuple):
        return ", ".join(map(_said, value))
    return "?" if value is None else _said(value)


def _said(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, msgspec.Struct):
        return str(getattr(value, "destination", value))  # of a mount
    return str(value)
