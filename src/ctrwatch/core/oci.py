"""
The parts of an OCI bundle's config.json that we read (runtime spec 1.0 to 1.3).

Types only. What is not named here is skipped by the decoder and never becomes text:
the environment's values above all.
"""

from __future__ import annotations

import msgspec

__all__ = ("Config", "Device", "DeviceRule", "Linux", "Mount", "Process", "Resources", "Seccomp")


class Part(msgspec.Struct, frozen=True, rename="camel"):
    """An object of the file. Go writes null for what is not set."""


class User(Part, frozen=True):
    uid: int = 0
    gid: int = 0
    username: str | None = None


class Capabilities(Part, frozen=True):
    bounding: list[str] | None = None


class Process(Part, frozen=True):
    args: list[str] | None = None
    cwd: str | None = None
    user: User | None = None
    capabilities: Capabilities | None = None
    apparmor_profile: str | None = None
    selinux_label: str | None = None
    no_new_privileges: bool | None = None


class Root(Part, frozen=True):
    readonly: bool | None = None


class Mount(Part, frozen=True):
    destination: str
    source: str | None = None
    type: str | None = None
    options: list[str] | None = None


class Namespace(Part, frozen=True):
    type: str
    path: str | None = None


class Device(Part, frozen=True):
    path: str
    type: str = ""


class DeviceRule(Part, frozen=True):
    allow: bool = False
    type: str | None = None
    major: int | None = None
    minor: int | None = None
    access: str | None = None


class Memory(Part, frozen=True):
    limit: int | None = None


class Cpu(Part, frozen=True):
    quota: int | None = None
    period: int | None = None
    shares: int | None = None


class Pids(Part, frozen=True):
    limit: int | None = None


class Resources(Part, frozen=True):
    devices: list[DeviceRule] | None = None
    memory: Memory | None = None
    cpu: Cpu | None = None
    pids: Pids | None = None
    unified: dict[str, str] | None = None


class Seccomp(Part, frozen=True):
    default_action: str = ""
    syscalls: list[msgspec.Raw] | None = None


class Linux(Part, frozen=True):
    namespaces: list[Namespace] | None = None
    devices: list[Device] | None = None
    resources: Resources | None = None
    cgroups_path: str | None = None
    seccomp: Seccomp | None = None
    masked_paths: list[str] | None = None
    sysctl: dict[str, str] | None = None


class Config(Part, frozen=True):
    process: Process | None = None
    root: Root | None = None
    hostname: str | None = None
    mounts: list[Mount] | None = None
    annotations: dict[str, str] | None = None
    linux: Linux | None = None
