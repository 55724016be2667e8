"""
Who a container is, from its OCI bundle's annotations and directory; from labels too.

Pure: text in, facts out. Seen with containerd 1.6, Podman 4.3, CRI-O 1.37, BuildKit of
Docker 20.10 (tests/data/bundles, tests/data/crio); nerdctl's and older ones' are read.

Annotations can lie: `docker run --annotation` writes any. So an engine's annotations are
believed only in a directory where that engine's bundles lie, and Docker's never. Docker,
containerd and CRI-O are daemons, mostly root's: of a container that an unprivileged user
made, a bundle, which he can write himself, does not speak for them; their own records do.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import msgspec

from ctrwatch.core.reference import is_image_id, normalise, parse, repository_digest
from ctrwatch.core.text import jsonable
from ctrwatch.model import Facts, Leads, Missing, Runtime

__all__ = ("from_labels", "who")

TEXT_MAX: Final = 512  # Kubernetes' names have at most 253 characters
LABELS_MAX: Final = 64 << 10  # characters in all labels: more is no label, but an attack

_CRI: Final = "io.kubernetes.cri."  # containerd
_CRIO: Final = "io.kubernetes.cri-o."  # CRI-O, and Podman for some
_POD: Final = "io.kubernetes.pod."
_POD_FIELDS: Final = ("pod_name", "pod_namespace", "pod_uid")
_IMAGE_FIELDS: Final = ("container_image", "container_image_digest")
_KUBERNETES: Final = "k8s.io"  # containerd's namespace for its CRI
_DOCKERS: Final = frozenset({"moby", "plugins.moby"})  # containerd's namespaces for Docker
_BUILDKIT: Final = "buildkit"  # of buildkitd with a containerd worker


# Where bundles lie.
_TASK: Final = re.compile(
    r".*/io\.containerd\.runtime\.v[12]\.(?:task|linux)/(?P<namespace>[^/]+)/(?P<id>[^/]+)/?"
)
# Of containers/storage: Podman's graph root; CRI-O's run root.
_STORAGE: Final = re.compile(r"(?P<root>/.*)/[a-z0-9]+-containers/[^/]+/userdata/?")
_BUILDKIT_STEP: Final = re.compile(r".*/(?:buildkit|runc-[\w-]+)/executor/[0-9a-z]{25}/?")
_BUILDAH_STEP: Final = re.compile(r".*/buildah[0-9]+/?")
_SANDBOX: Final = {"sandbox": True, "podsandbox": True, "container": False}
_PROGRAMS: Final = {"runc": Runtime.RUNC, "crun": Runtime.CRUN}
_MOUNT_POINT: Final = re.compile(r"(?P<root>/.*)/[a-z0-9]+/[0-9a-f]{64}/merged")


def who(
    annotations: Mapping[str, str],
    bundle_dir: str,
    oci_runtime: str,
    container_id: str = "",
    *,
    rootless: bool = False,
) -> Facts:
    """
    Return what a bundle's *annotations* and directory say of the container's identity.

    *oci_runtime* is the program that made the container (core/cmdline.py), "" if unknown;
    *container_id*, where it is known, is the name of a container that has no engine;
    *rootless*: an unprivileged user made it.

    >>> bundle = "/run/containerd/io.containerd.runtime.v2.task/batch/job-1"
    >>> facts = who({}, bundle, "runc")
    >>> facts.runtime, facts.name, facts.leads.namespace
    (<Runtime.CONTAINERD: 'containerd'>, 'job-1', 'batch')
    """
    leads = Leads(oci_runtime=_text(oci_runtime) or "", bundle=bundle_dir)
    manager = annotations.get("io.container.manager")
    if place := _TASK.fullmatch(bundle_dir):
        facts = _containerd(annotations, place["namespace"], place["id"])
        facts = Facts(leads=facts.leads) if rootless else facts
    elif place := _STORAGE.fullmatch(bundle_dir):
        facts = Facts()
        if manager == "libpod":
            facts = _podman(annotations, place["root"])
        elif manager == "cri-o" and not rootless:
            facts = _crio(annotations)
    elif _BUILDKIT_STEP.fullmatch(bundle_dir):
        facts = _alone(Runtime.BUILDKIT, leads)
    elif _BUILDAH_STEP.fullmatch(bundle_dir) or container_id.startswith("buildah-buildah"):
        facts = _alone(Runtime.BUILDAH, leads)
    else:
        runtime = _PROGRAMS.get(oci_runtime)
        facts = _alone(runtime, leads, name=_text(container_id), labels=_bounded(annotations))
    return msgspec.structs.replace(facts, leads=_both(leads, facts.leads))


def from_labels(labels: Mapping[str, str]) -> Facts:
    """
    Return what an engine's *labels* of a container say of its pod and its name.

    The kubelet's, which cri-dockerd and the CRI's runtimes pass on, and nerdctl's.

    >>> from_labels({"io.kubernetes.pod.name": "web"}).pod_name
    'web'
    """
    kind = labels.get("io.kubernetes.docker.type") or labels.get("io.cri-containerd.kind")
    return Facts(
        name=_text(labels.get("io.kubernetes.container.name") or labels.get("nerdctl/name")),
        pod_name=_text(labels.get(_POD + "name")),
        pod_namespace=_text(labels.get(_POD + "namespace")),
        pod_uid=_text(labels.get(_POD + "uid")),
        sandbox=_SANDBOX.get(kind or ""),
        leads=Leads(namespace=_text(labels.get("nerdctl/namespace")) or ""),
    )


def _containerd(annotations: Mapping[str, str], namespace: str, task_id: str) -> Facts:
    """What Docker's containers are called stands in no bundle."""
    leads = Leads(namespace=_text(namespace) or "")
    if namespace in _DOCKERS:
        return Facts(runtime=Runtime.DOCKER, leads=leads)
    if namespace == _BUILDKIT:
        return _alone(Runtime.BUILDKIT, leads)
    if namespace == _KUBERNETES and annotations.get(_CRI + "container-type") in _SANDBOX:
        return _cri(annotations, leads)
    return Facts(
        runtime=Runtime.CONTAINERD,
        name=from_labels(annotations).name or _text(task_id),  # ctr and nerdctl copy labels here
        sandbox=False,
        leads=leads,
        absent=dict.fromkeys(_POD_FIELDS, Missing.NOT_IN_POD),
    )


def _cri(annotations: Mapping[str, str], leads: Leads) -> Facts:
    said = {key.removeprefix(_CRI): value for key, value in annotations.items()}
    is_sandbox = _SANDBOX[said["container-type"]]
    image = said.get("podsandbox.image-name" if is_sandbox else "image-name", "")
    return Facts(
        runtime=Runtime.CONTAINERD,
        image=_image(image),
        name=None if is_sandbox else _text(said.get("container-name")),
        pod_name=_text(said.get("sandbox-name")),
        pod_namespace=_text(said.get("sandbox-namespace")),
        pod_uid=_text(said.get("sandbox-uid")),
        sandbox=is_sandbox,
        leads=msgspec.structs.replace(
            leads,
            sandbox_id=_text(said.get("sandbox-id")) or "",
            image_ref=_text(image) or "",
        ),
        absent={"container_name": Missing.HAS_NONE} if is_sandbox else {},
    )


def _podman(annotations: Mapping[str, str], graph_root: str) -> Facts:
    """
    Podman's storage knows the rest; a pod's infra container is not marked in its bundle.

    A member of a pod is: then Podman's pods have no namespace.
    """
    sandbox_id = annotations.get(_CRIO + "SandboxID", "")
    return Facts(
        runtime=Runtime.PODMAN,
        sandbox=_SANDBOX.get(annotations.get(_CRIO + "ContainerType", "")),
        leads=Leads(graph_root=graph_root, sandbox_id=_text(sandbox_id) or ""),
        absent={"pod_namespace": Missing.HAS_NONE} if sandbox_id else {},
    )


def _crio(annotations: Mapping[str, str]) -> Facts:
    """
    A container's bundle may lack the pod's namespace and uid: its sandbox's has them.

    ImageRef is the config digest; older CRI-Os wrote the registry digest there.
    """
    said = {key.removeprefix(_CRIO): value for key, value in annotations.items()}
    labels = _labels_in(said.get("Labels", ""))
    pod = from_labels({**(labels or {}), **annotations})
    name = said.get("ImageName") or said.get("Image") or ""
    image, ref = _image(name), said.get("ImageRef", "")
    is_id = is_image_id(ref)
    digests = said.get("ImageRepoDigests", "" if is_id else ref)
    digest = repository_digest(image or "", digests.split(","))
    has_none = not digest and "ImageRepoDigests" in said
    mount_point = _MOUNT_POINT.fullmatch(said.get("MountPoint", ""))
    return Facts(
        runtime=Runtime.CRIO,
        image=image,
        image_digest=digest,
        image_id="sha256:" + ref.removeprefix("sha256:") if is_id else None,
        name=pod.name,
        pod_name=pod.pod_name or _text(said.get("KubeName")),
        pod_namespace=pod.pod_namespace or _text(said.get("Namespace")),
        pod_uid=pod.pod_uid,
        sandbox=_SANDBOX.get(said.get("ContainerType", "")),
        labels=None if labels is None else _bounded(labels),
        leads=Leads(
            graph_root=mount_point["root"] if mount_point else "",
            sandbox_id=_text(said.get("SandboxID")) or "",
            image_ref=_text(name) or "",
        ),
        absent={"container_image_digest": Missing.NO_REGISTRY_DIGEST} if has_none else {},
    )


def _both(first: Leads, more: Leads) -> Leads:
    news = {field: value for field in Leads.__struct_fields__ if (value := getattr(more, field))}
    return msgspec.structs.replace(first, **news)


def _alone(
    runtime: Runtime | None,
    leads: Leads,
    name: str | None = None,
    labels: dict[str, str] | None = None,
) -> Facts:
    """A container from a root file system, in no pod; if nothing else is said, without a name."""
    absent = {
        **dict.fromkeys(_IMAGE_FIELDS, Missing.NO_IMAGE),
        **dict.fromkeys(_POD_FIELDS, Missing.NOT_IN_POD),
    }
    if not name:
        absent["container_name"] = Missing.HAS_NONE
    if runtime is None:
        absent["runtime"] = Missing.HAS_NONE  # youki, runsc: a program, but no engine
    return Facts(
        runtime=runtime,
        name=name,
        sandbox=False,
        labels=labels or {},
        leads=leads,
        absent=absent,
    )


def _image(name: str) -> str | None:
    return normalise(name) if parse(name) else None


def _labels_in(text: str) -> dict[str, str] | None:
    try:
        return msgspec.json.decode(text, type=dict[str, str])
    except ValueError:  # there are none, or it is no JSON
        return None


def _bounded(labels: Mapping[str, str]) -> dict[str, str]:
    """Return labels of `LABELS_MAX` characters in all; the last one says how many are left out."""
    bounded: dict[str, str] = {}
    left = LABELS_MAX
    for key, value in labels.items():
        left -= len(key) + len(value)
        if left < 0:
            bounded["…"] = f"{len(labels) - len(bounded)} more"
            break
        bounded[key] = value
    return bounded


def _text(text: str | None) -> str | None:
    """
    Return a name in its bounds; None for "" too, which is how runtimes write "none".

    A directory's name may be no UTF-8.
    """
    if not text:
        return None
    text = jsonable(text)
    return text if len(text) <= TEXT_MAX else text[: TEXT_MAX - 1] + "…"
