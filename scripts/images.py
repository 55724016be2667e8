"""Container images and bundles out of a static busybox: no registry, no builder, no daemon."""

import hashlib
import io
import json
import platform
import subprocess
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

BUSYBOX = Path("/bin/busybox")
APPLETS = ("cat", "echo", "env", "false", "id", "ls", "mkdir", "sh", "sleep", "touch", "true")
ARCHITECTURE = {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()]


@dataclass(frozen=True)
class MediaTypes:
    """What a registry calls the parts of an image."""

    index: str
    manifest: str
    config: str
    layer: str


OCI = MediaTypes(
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.oci.image.layer.v1.tar",
)
DOCKER = MediaTypes(
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
    "application/vnd.docker.container.image.v1+json",
    "application/vnd.docker.image.rootfs.diff.tar",
)


@dataclass(frozen=True)
class Image:
    """What is in an archive; `name` is complete: `docker.io/library/busybox:test`."""

    archive: Path
    name: str
    manifest_digest: str
    config_digest: str


@dataclass(frozen=True)
class Manifest:
    """An image for one platform, as a registry has it: its manifest, and what that names."""

    media_type: str
    raw: bytes
    config: bytes
    layer: bytes
    platform: Mapping[str, str]

    @property
    def digest(self) -> str:
        return digest_of(self.raw)

    @property
    def config_digest(self) -> str:
        return digest_of(self.config)


@dataclass(frozen=True)
class Index:
    """An image for several platforms."""

    media_type: str
    raw: bytes
    manifests: Sequence[Manifest]

    @property
    def digest(self) -> str:
        return digest_of(self.raw)


def make_rootfs(directory: Path) -> Path:
    """The root directory of a container with a shell and a few commands."""
    directory.mkdir(parents=True)
    for name in ("bin", "dev", "etc", "proc", "sys", "tmp"):
        (directory / name).mkdir()
    (directory / "etc/passwd").write_text("root:x:0:0:root:/:/bin/sh\n")
    (directory / "etc/group").write_text("root:x:0:\n")
    (directory / "bin/busybox").write_bytes(BUSYBOX.read_bytes())
    (directory / "bin/busybox").chmod(0o755)
    for applet in APPLETS:
        (directory / "bin" / applet).symlink_to("busybox")
    return directory


def make_manifest(
    rootfs: Path, types: MediaTypes = OCI, architecture: str = ARCHITECTURE, **config: Any
) -> Manifest:
    """`config` is the OCI image configuration's: `Cmd`, `Labels`, `Env`, …"""
    layer = _tar({str(path.relative_to(rootfs)): path for path in sorted(rootfs.rglob("*"))})
    platform = {"architecture": architecture, "os": "linux"}
    configuration = _json(
        {
            **platform,
            "config": {"Env": ["PATH=/bin"], **config},
            "rootfs": {"type": "layers", "diff_ids": [digest_of(layer)]},
        }
    )
    raw = _json(
        {
            "schemaVersion": 2,
            "mediaType": types.manifest,
            "config": _descriptor(types.config, configuration),
            "layers": [_descriptor(types.layer, layer)],
        }
    )
    return Manifest(types.manifest, raw, configuration, layer, platform)


def make_index(*manifests: Manifest, types: MediaTypes = OCI) -> Index:
    """For several platforms one name."""
    descriptors = [
        {**_descriptor(each.media_type, each.raw), "platform": each.platform} for each in manifests
    ]
    raw = _json({"schemaVersion": 2, "mediaType": types.index, "manifests": descriptors})
    return Index(types.index, raw, manifests)


def make_image(archive: Path, name: str, rootfs: Path, **config: Any) -> Image:
    """An archive that `docker load`, `podman load` and `ctr image import` take alike.

    It is an OCI layout with Docker's own table of contents beside the OCI one, as Docker 25
    writes it. `config`: see `make_manifest`.
    """
    manifest = make_manifest(rootfs, **config)
    names = {
        "io.containerd.image.name": name,
        "org.opencontainers.image.ref.name": name,
    }
    descriptor = {**_descriptor(manifest.media_type, manifest.raw), "annotations": names}
    index = {"schemaVersion": 2, "manifests": [descriptor]}
    blobs = (manifest.layer, manifest.config, manifest.raw)
    dockers = [
        {"Config": _blob(manifest.config), "RepoTags": [name], "Layers": [_blob(manifest.layer)]}
    ]
    archive.write_bytes(
        _tar(
            {
                "oci-layout": _json({"imageLayoutVersion": "1.0.0"}),
                "index.json": _json(index),
                "manifest.json": _json(dockers),
                **{_blob(data): data for data in blobs},
            }
        )
    )
    return Image(archive, name, manifest.digest, manifest.config_digest)


def make_bundle(
    runtime: str,
    bundle: Path,
    rootfs: Path,
    program: Sequence[str],
    *,
    annotations: Mapping[str, str] | None = None,
    cgroup: str = "",
) -> Path:
    """An OCI bundle, with the default configuration of the OCI runtime `runtime`."""
    bundle.mkdir()
    subprocess.run([runtime, "spec"], cwd=bundle, check=True)
    config = bundle / "config.json"
    spec = json.loads(config.read_text())
    spec["process"] |= {"terminal": False, "args": program}
    spec["root"] = {"path": str(rootfs), "readonly": True}
    spec["annotations"] = annotations or {}
    if cgroup:
        spec["linux"]["cgroupsPath"] = cgroup
    # On cgroup v2 crun raises a limit to load its program for devices; not every host lets it.
    del spec["linux"]["resources"]
    config.write_text(json.dumps(spec))
    return bundle


def _tar(members: Mapping[str, Path] | Mapping[str, bytes]) -> bytes:
    """The same members give the same bytes: no times, no owners."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, member in members.items():
            if isinstance(member, bytes):
                info = tarfile.TarInfo(name)
                info.size = len(member)
                tar.addfile(info, io.BytesIO(member))
                continue
            info = tar.gettarinfo(member, name)
            info.mtime = info.uid = info.gid = 0
            info.uname = info.gname = ""
            with member.open("rb") if info.isreg() else io.BytesIO() as content:
                tar.addfile(info, content)
    return buffer.getvalue()


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def digest_of(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


def _blob(data: bytes) -> str:
    return "blobs/" + digest_of(data).replace(":", "/")


def _descriptor(media_type: str, data: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": digest_of(data), "size": len(data)}
