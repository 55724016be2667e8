"""A small client for a Kubernetes runtime: it does what the kubelet does for a pod, in its order.

It shares nothing with ctrwatch's own: what one gets wrong, the other does not.
"""

import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc  # type: ignore[import-untyped]  # has no types of its own

from tests.live.daemons import BedError
from tests.live.leftovers import cgroups_of

# Looked for along sys.path, like a module.
api: Any = grpc.protos("tests/live/cri.proto")

DEADLINE_S = 30


@dataclass(frozen=True)
class Pod:
    id: str
    name: str
    namespace: str
    uid: str
    config: Any = field(repr=False)


class CriClient:
    def __init__(self, socket: Path, *, systemd: bool = False) -> None:
        """*systemd* makes the cgroups: pods are slices."""
        self._systemd = systemd
        self._channel = grpc.insecure_channel(
            f"unix://{socket}", options=[("grpc.default_authority", "localhost")]
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._channel.close()

    def run_pod(self, name: str, namespace: str, labels: dict[str, str]) -> Pod:
        uid = str(uuid.uuid4())
        config = api.PodSandboxConfig(
            metadata=api.PodSandboxMetadata(name=name, namespace=namespace, uid=uid),
            labels={
                "io.kubernetes.pod.name": name,
                "io.kubernetes.pod.namespace": namespace,
                "io.kubernetes.pod.uid": uid,
                **labels,
            },
            linux=api.LinuxPodSandboxConfig(
                cgroup_parent=self._parent(uid),
                security_context=api.LinuxSandboxSecurityContext(namespace_options=_namespaces()),
            ),
        )
        answer = self._ask("RunPodSandbox", config=config)
        return Pod(answer.pod_sandbox_id, name, namespace, uid, config)

    def run_container(
        self,
        pod: Pod,
        name: str,
        program: Sequence[str],
        *,
        image: str,
        labels: dict[str, str],
        privileged: bool,
        attempt: int = 0,
        mounts: dict[str, str] | None = None,
    ) -> str:
        """*mounts*: where in the container, by the host's directory."""
        config = api.ContainerConfig(
            metadata=api.ContainerMetadata(name=name, attempt=attempt),
            image=api.ImageSpec(image=image),
            command=program,
            mounts=[
                api.Mount(host_path=host, container_path=inside)
                for host, inside in (mounts or {}).items()
            ],
            labels={
                "io.kubernetes.container.name": name,
                "io.kubernetes.pod.name": pod.name,
                "io.kubernetes.pod.namespace": pod.namespace,
                "io.kubernetes.pod.uid": pod.uid,
                **labels,
            },
            linux=api.LinuxContainerConfig(
                security_context=api.LinuxContainerSecurityContext(
                    privileged=privileged, namespace_options=_namespaces()
                )
            ),
        )
        answer = self._ask(
            "CreateContainer", pod_sandbox_id=pod.id, config=config, sandbox_config=pod.config
        )
        self._ask("StartContainer", container_id=answer.container_id)
        return str(answer.container_id)

    def container_status(self, container: str) -> Any:
        return self._ask("ContainerStatus", container_id=container).status

    def pod_status(self, pod: Pod) -> Any:
        return self._ask("PodSandboxStatus", pod_sandbox_id=pod.id).status

    def listed(self) -> list[Any]:
        """As `crictl ps --all` and `crictl pods`: protobuf messages of either kind."""
        containers, pods = self._ask("ListContainers"), self._ask("ListPodSandbox")
        return [*containers.containers, *pods.items]

    def image_status(self, name: str) -> Any:
        return self._ask("ImageStatus", "ImageService", image=api.ImageSpec(image=name)).image

    def pull(self, name: str) -> None:
        self._ask("PullImage", "ImageService", image=api.ImageSpec(image=name))

    def remove_container(self, container: str) -> None:
        self._ask("StopContainer", container_id=container, timeout=0)
        self._ask("RemoveContainer", container_id=container)

    def remove_pod(self, pod: Pod) -> None:
        self._ask("StopPodSandbox", pod_sandbox_id=pod.id)
        self._ask("RemovePodSandbox", pod_sandbox_id=pod.id)
        # The pod's own cgroup is the kubelet's to remove.
        for directory in cgroups_of([pod.uid]):
            with suppress(FileNotFoundError):
                directory.rmdir()

    def _parent(self, uid: str) -> str:
        """A best-effort pod's cgroup, as the kubelet would make it."""
        if self._systemd:
            return f"kubepods-besteffort-pod{uid.replace('-', '_')}.slice"
        return f"/kubepods/besteffort/pod{uid}"

    def _ask(self, method: str, service: str = "RuntimeService", **request: Any) -> Any:
        call = self._channel.unary_unary(
            f"/runtime.v1.{service}/{method}",
            request_serializer=getattr(api, f"{method}Request").SerializeToString,
            response_deserializer=getattr(api, f"{method}Response").FromString,
        )
        try:
            return call(getattr(api, f"{method}Request")(**request), timeout=DEADLINE_S)
        except grpc.RpcError as error:
            raise BedError(f"{method}: {error.details()}") from None


def _namespaces() -> Any:
    """As a pod with `hostNetwork: true` has them."""
    return api.NamespaceOption(network=api.NODE, pid=api.CONTAINER)
