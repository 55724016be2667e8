"""The runtimes of a test bed, as its tests use them: run, inspect, remove.

An id is what the runtime itself prints; what `inspect` returns is the runtime's own answer.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

from scripts.images import Image, make_bundle
from tests.live.cri import CriClient, Pod
from tests.live.daemons import command, start_containerd, start_daemon
from tests.live.waiting import until

IMAGE = "docker.io/library/busybox:test"
PAUSE = "registry.k8s.io/pause:test"

Json = dict[str, Any]


class Docker:
    """A dockerd with a socket of its own, `socket`."""

    def __init__(self, home: Path, containerd: Path, image: Image, stack: ExitStack) -> None:
        home.mkdir()
        self.socket = home / "docker.sock"
        self.data_root = home / "data"
        # A newer client may refuse this dockerd: Debian's own stands in /usr/bin.
        own = Path("/usr/bin/docker")
        self._client = str(own) if own.exists() else "docker"
        start_daemon(
            home, stack,
            "dockerd", "--host", f"unix://{self.socket}", "--containerd", containerd,
            "--data-root", self.data_root, "--exec-root", home / "exec",
            "--pidfile", home / "pid", "--iptables=false", "--ip6tables=false", "--bridge=none",
        )  # fmt: skip
        stack.callback(self._remove_all)
        self.cli("load", "--quiet", "--input", str(image.archive))

    def cli(self, *arguments: str) -> str:
        return command(self._client, "--host", f"unix://{self.socket}", *arguments)

    def run(self, *program: str, image: str = IMAGE, options: Sequence[str] = ()) -> str:
        """Returns the id of the container, which has started."""
        return self.cli("run", "--detach", "--network", "none", *options, image, *program)

    def inspect(self, container: str) -> Json:
        return cast("Json", json.loads(self.cli("container", "inspect", container))[0])

    def inspect_image(self, name: str = IMAGE) -> Json:
        return cast("Json", json.loads(self.cli("image", "inspect", name))[0])

    def pull(self, name: str) -> None:
        """From `bed.registry`; only an image that was pulled has a digest of its registry."""
        self.cli("pull", "--quiet", name)

    def restart(self, container: str) -> None:
        self.cli("restart", "--time", "0", container)

    def wait(self, container: str) -> int:
        """Until it has ended; its exit code."""
        return int(self.cli("wait", container))

    def remove(self, *containers: str) -> None:
        self.cli("rm", "--force", *containers)

    def _remove_all(self) -> None:
        if containers := self.cli("ps", "--all", "--quiet").split():
            self.remove(*containers)


class Ctr:
    """containerd without anything above it, in any of its namespaces.

    Shims keep runc's state in /run/containerd/runc/NAMESPACE, whichever containerd they belong to:
    the same id in the same namespace of two beds at once is refused.
    """

    def __init__(
        self,
        containerd: Path,
        image: Image,
        stack: ExitStack,
        will_make_cgroups: Callable[[str], None],
    ) -> None:
        self.socket = containerd
        self._image = image
        self._will_make_cgroups = will_make_cgroups
        self._namespaces: set[str] = set()
        stack.callback(self._remove_all)

    def cli(self, namespace: str, *arguments: str) -> str:
        return command("ctr", "--address", self.socket, "--namespace", namespace, *arguments)

    def run(
        self,
        container: str,
        *program: str,
        namespace: str = "default",
        image: str = IMAGE,
        options: Sequence[str] = (),
    ) -> str:
        """`container`, of any spelling, is its id; it has started when this returns."""
        self._prepare(namespace)
        self.cli(namespace, "run", "--detach", "--null-io", *options, image, container, *program)
        return container

    def inspect(self, container: str, namespace: str = "default") -> Json:
        return cast("Json", json.loads(self.cli(namespace, "container", "info", container)))

    def image_digest(self, name: str = IMAGE, namespace: str = "default") -> str:
        self._prepare(namespace)
        line = self.cli(namespace, "image", "ls", f"name=={name}").splitlines()[1]
        return line.split()[2]

    def pid(self, container: str, namespace: str = "default") -> int:
        lines = self.cli(namespace, "task", "ls").splitlines()
        return next(int(line.split()[1]) for line in lines if line.split()[0] == container)

    def remove(self, container: str, namespace: str = "default") -> None:
        if container in self.cli(namespace, "task", "ls", "--quiet").split():
            self.cli(namespace, "task", "rm", "--force", container)
        self.cli(namespace, "container", "rm", container)

    def _prepare(self, namespace: str) -> None:
        if namespace in self._namespaces:
            return
        self._will_make_cgroups(namespace)
        self._namespaces.add(namespace)
        self.cli(namespace, "image", "import", str(self._image.archive))

    def _remove_all(self) -> None:
        for namespace in self._namespaces:
            for container in self.cli(namespace, "container", "ls", "--quiet").split():
                self.remove(container, namespace)


class Cri:
    """A containerd that Kubernetes would talk to. Pods share the host's network: no CNI is needed."""

    def __init__(self, home: Path, images: Sequence[Image], stack: ExitStack) -> None:
        config = {
            "sandbox_image": PAUSE,
            # Where the test itself may not lower its own score, its containers may not either.
            "restrict_oom_score_adj": True,
        }
        self.socket = start_containerd(home, stack, cri=config)
        for image in images:
            command("ctr", "--address", self.socket, "--namespace", "k8s.io",
                    "image", "import", image.archive)  # fmt: skip
        self._client = stack.enter_context(CriClient(self.socket))
        self._pods: list[Pod] = []
        stack.callback(self._remove_all)

    def pod(self, name: str, namespace: str = "default", **labels: str) -> Pod:
        """Starts the sandbox of a pod, in a cgroup as the kubelet would make it."""
        pod = self._client.run_pod(name, namespace, labels)
        self._pods.append(pod)
        return pod

    def run(
        self,
        pod: Pod,
        name: str,
        *program: str,
        image: str = IMAGE,
        labels: dict[str, str] | None = None,
        privileged: bool = False,
    ) -> str:
        """Creates and starts a container in the pod, and returns its id."""
        return self._client.run_container(
            pod, name, program, image=image, labels=labels or {}, privileged=privileged
        )

    def status(self, container: str) -> Any:
        """The CRI's ContainerStatus, a protobuf message."""
        return self._client.container_status(container)

    def pod_status(self, pod: Pod) -> Any:
        """The CRI's PodSandboxStatus, a protobuf message."""
        return self._client.pod_status(pod)

    def image_status(self, name: str = IMAGE) -> Any:
        """The CRI's Image, a protobuf message."""
        return self._client.image_status(name)

    def pull(self, name: str) -> None:
        """From `bed.registry`; only an image that was pulled has a digest of its registry."""
        self._client.pull(name)

    def image_digest(self, name: str = IMAGE) -> str:
        lines = command("ctr", "--address", self.socket, "--namespace", "k8s.io",
                        "image", "ls", f"name=={name}")  # fmt: skip
        return lines.splitlines()[1].split()[2]

    def wait(self, container: str) -> int:
        """Until it has ended; its exit code."""
        until(f"{container} has ended", lambda: self.status(container).finished_at > 0)
        return int(self.status(container).exit_code)

    def remove(self, container: str) -> None:
        self._client.remove_container(container)

    def remove_pod(self, pod: Pod) -> None:
        """With its containers."""
        self._client.remove_pod(pod)
        self._pods.remove(pod)

    def _remove_all(self) -> None:
        for pod in list(self._pods):
            self.remove_pod(pod)


class Podman:
    """Podman as root, with a storage of its own: `graph_root`."""

    def __init__(self, home: Path, image: Image, pause: Image, stack: ExitStack) -> None:
        home.mkdir()
        self.graph_root = home / "storage"
        self._home = home
        self._config = home / "containers.conf"
        # crun refuses a hybrid host; without systemd there is only cgroupfs; and where raising
        # limits is not allowed, Podman's default limits are too high.
        self._config.write_text(
            "[containers]\n"
            'default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n'
            "[engine]\n"
            'cgroup_manager = "cgroupfs"\n'
            'events_logger = "file"\n'
            'runtime = "runc"\n'
        )
        stack.callback(self._remove_all)
        for each in (image, pause):
            self.cli("load", "--quiet", "--input", str(each.archive))

    def cli(self, *arguments: str) -> str:
        return command(
            "podman", "--root", self.graph_root, "--runroot", self._home / "run",
            "--tmpdir", self._home / "tmp", *arguments,
            environment={"CONTAINERS_CONF": str(self._config)},
        )  # fmt: skip

    def run(self, *program: str, image: str = IMAGE, options: Sequence[str] = ()) -> str:
        """Returns the id of the container, which has started."""
        network = () if "--pod" in options else ("--network", "none")
        return self.cli("run", "--detach", *network, *options, image, *program)

    def pod(self, name: str) -> str:
        """Starts a pod; `run(..., options=["--pod", name])` gives it containers. Returns its id."""
        self.cli("pod", "create", "--name", name, "--network", "none", "--infra-image", PAUSE)
        return self.cli("pod", "start", name)

    def inspect(self, container: str) -> Json:
        return cast("Json", json.loads(self.cli("container", "inspect", container))[0])

    def inspect_pod(self, name: str) -> Json:
        return cast("Json", json.loads(self.cli("pod", "inspect", name)))

    def inspect_image(self, name: str = IMAGE) -> Json:
        return cast("Json", json.loads(self.cli("image", "inspect", name))[0])

    def pull(self, name: str) -> None:
        """From `bed.registry`."""
        self.cli("pull", "--quiet", "--tls-verify=false", name)

    def wait(self, container: str) -> int:
        """Until it has ended; its exit code."""
        return int(self.cli("wait", container))

    def remove(self, *containers: str) -> None:
        self.cli("rm", "--force", "--time", "0", *containers)

    def remove_pod(self, name: str) -> None:
        self.cli("pod", "rm", "--force", "--time", "0", name)

    def _remove_all(self) -> None:
        self.cli("pod", "rm", "--all", "--force", "--time", "0")
        self.cli("rm", "--all", "--force", "--time", "0")


class Runc:
    """An OCI runtime with nobody above it. *state*: another place than the bed's for its own."""

    def __init__(self, home: Path, rootfs: Path, stack: ExitStack, program: str = "runc") -> None:
        home.mkdir()
        self.program = program
        self._home = home
        self._rootfs = rootfs
        stack.callback(self._remove_all)

    def cli(self, *arguments: str | Path, state: Path | None = None) -> str:
        return command(self.program, "--root", state or self._home / "state", *arguments)

    def run(
        self,
        container: str,
        *program: str,
        annotations: dict[str, str] | None = None,
        state: Path | None = None,
    ) -> str:
        """`container` is its id; it has started when this returns."""
        bundle = make_bundle(
            self.program, self.bundle(container), self._rootfs, program, annotations
        )
        self.cli("run", "--detach", "--bundle", bundle, container, state=state)
        return container

    def bundle(self, container: str) -> Path:
        return self._home / container

    def state(self, container: str, state: Path | None = None) -> Json:
        return cast("Json", json.loads(self.cli("state", container, state=state)))

    def remove(self, container: str, state: Path | None = None) -> None:
        self.cli("delete", "--force", container, state=state)

    def _remove_all(self) -> None:
        for container in self.cli("list", "--quiet").split():
            self.remove(container)
