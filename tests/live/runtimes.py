"""The runtimes of a test bed, as its tests use them: run, inspect, remove.

An id is what the runtime itself prints; what `inspect` returns is the runtime's own answer.
"""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

from scripts.images import Image, make_bundle
from tests.live.cri import CriClient, Pod
from tests.live.daemons import command, spawn, start_daemon
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

    def words(self, *arguments: str) -> list[str]:
        """The command line of its client."""
        return [self._client, "--host", f"unix://{self.socket}", *arguments]

    def cli(self, *arguments: str, environment: dict[str, str] | None = None) -> str:
        return command(*self.words(*arguments), environment=environment)

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

    def __init__(
        self, socket: Path, images: Sequence[Image], stack: ExitStack, *, systemd: bool = False
    ) -> None:
        """*systemd*: it makes the cgroups of this containerd's containers."""
        self.socket = socket
        for image in images:
            command("ctr", "--address", self.socket, "--namespace", "k8s.io",
                    "image", "import", image.archive)  # fmt: skip
        self._client = stack.enter_context(CriClient(self.socket, systemd=systemd))
        self.pods: list[Pod] = []
        stack.callback(self._remove_all)

    def pod(self, name: str, namespace: str = "default", **labels: str) -> Pod:
        """Starts the sandbox of a pod, in a cgroup as the kubelet would make it."""
        pod = self._client.run_pod(name, namespace, labels)
        self.pods.append(pod)
        return pod

    def run(
        self,
        pod: Pod,
        name: str,
        *program: str,
        image: str = IMAGE,
        labels: dict[str, str] | None = None,
        privileged: bool = False,
        attempt: int = 0,
        mounts: dict[str, str] | None = None,
    ) -> str:
        """Creates and starts a container in the pod, and returns its id."""
        return self._client.run_container(
            pod, name, program,
            image=image, labels=labels or {}, privileged=privileged, attempt=attempt,
            mounts=mounts,
        )  # fmt: skip

    def status(self, container: str) -> Any:
        """The CRI's ContainerStatus, a protobuf message."""
        return self._client.container_status(container)

    def pod_status(self, pod: Pod) -> Any:
        """The CRI's PodSandboxStatus, a protobuf message."""
        return self._client.pod_status(pod)

    def listed(self) -> list[Any]:
        """The CRI's Container and PodSandbox of each, protobuf messages."""
        return self._client.listed()

    def image_status(self, name: str = IMAGE) -> Any:
        """The CRI's Image, a protobuf message."""
        return self._client.image_status(name)

    def pull(self, name: str) -> None:
        """From `bed.registry`; only an image that was pulled has a digest of its registry."""
        self._client.pull(name)

    def wait(self, container: str) -> int:
        """Until it has ended; its exit code."""
        until(f"{container} has ended", lambda: self.status(container).finished_at > 0)
        return int(self.status(container).exit_code)

    def remove(self, container: str) -> None:
        self._client.remove_container(container)

    def remove_pod(self, pod: Pod) -> None:
        """With its containers."""
        self._client.remove_pod(pod)
        self.pods.remove(pod)

    def _remove_all(self) -> None:
        for pod in list(self.pods):
            self.remove_pod(pod)


class Podman:
    """Podman as root, with a storage of its own: `graph_root`."""

    def __init__(
        self, home: Path, image: Image, pause: Image, stack: ExitStack, *, systemd: bool = False
    ) -> None:
        """*systemd*: it makes the cgroups."""
        home.mkdir()
        self.graph_root = home / "storage"
        self._home = home
        config = home / "containers.conf"
        self.environment = {"CONTAINERS_CONF": str(config)}
        # crun refuses a hybrid host; without systemd there is only cgroupfs; and where raising
        # limits is not allowed, Podman's default limits are too high.
        config.write_text(
            "[containers]\n"
            'default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n'
            "pids_limit = 0\n"  # a v2 host whose v1 hierarchies hold the controllers has no such
            "[engine]\n"
            f'cgroup_manager = "{"systemd" if systemd else "cgroupfs"}"\n'
            'events_logger = "file"\n'
            f'runtime = "{"crun" if systemd else "runc"}"\n'
        )
        stack.callback(self._remove_all)
        for each in (image, pause):
            self.cli("load", "--quiet", "--input", str(each.archive))

    def words(self, *arguments: str) -> list[str]:
        """The command line of its client, which wants `environment`."""
        places = ("--root", self.graph_root, "--runroot", self._home / "run")
        return ["podman", *map(str, places), "--tmpdir", str(self._home / "tmp"), *arguments]

    def cli(self, *arguments: str) -> str:
        return command(*self.words(*arguments), environment=self.environment)

    def buildah(self, *arguments: str) -> str:
        """Buildah on the same images."""
        return command(
            "buildah", "--root", self.graph_root, "--runroot", self._home / "run", *arguments,
            environment=self.environment,
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


class RootlessPodman:
    """Podman of a user who is known in a mount namespace of its own only, and has a cgroup there.

    It is what systemd and logind set up for a user: cgroup v2 with a part that is his, ids for his
    containers, a runtime directory. `home` is his home, `graph_root` where his storage is by default.
    """

    uid = 54_321
    _ENTER = 'echo $$ >"$0/cli/cgroup.procs" && exec "$@"'
    _SETUP = """
        set -e
        mount --make-rprivate /
        grep -q " /sys/fs/cgroup cgroup2 " /proc/mounts || mount -t cgroup2 none /sys/fs/cgroup
        for name in passwd group subuid subgid; do mount --bind "$1/etc/$name" "/etc/$name"; done
        mkdir -p "/sys/fs/cgroup/$2/cli"
        chown -R "$3:$3" "/sys/fs/cgroup/$2"
        exec sleep 2147483647
    """

    def __init__(self, home: Path, image: Image, cgroup: str, stack: ExitStack) -> None:
        """*cgroup*: the name of the cgroup that becomes the user's."""
        home.parent.chmod(0o711)  # he has to get home
        self.home = home / "ann"
        self.graph_root = self.home / ".local/share/containers/storage"
        self._cgroup = cgroup
        self._cgroup_dir = f"/sys/fs/cgroup/{cgroup}"
        for directory in (home / "etc", self.home / ".config/containers", self.home / "run"):
            directory.mkdir(parents=True)
        for name, line in (
            ("passwd", f"ann:x:{self.uid}:{self.uid}::{self.home}:/bin/sh"),
            ("group", f"ann:x:{self.uid}:"),
            ("subuid", "ann:600100000:65536"),
            ("subgid", "ann:600100000:65536"),
        ):
            (home / "etc" / name).write_text(Path("/etc", name).read_text() + line + "\n")
        (self.home / ".config/containers/containers.conf").write_text(
            "[containers]\n"
            'default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]\n'
            "[engine]\n"
            'cgroup_manager = "cgroupfs"\n'
            'events_logger = "file"\n'
        )
        (self.home / ".config/containers/storage.conf").write_text('[storage]\ndriver = "vfs"\n')
        archive = shutil.copy(image.archive, self.home)
        for path in (self.home, *self.home.rglob("*")):
            os.chown(path, self.uid, self.uid)
        holder = spawn(home, stack, "unshare", "--mount", "sh", "-c", self._SETUP, "sh",
                       home, cgroup, str(self.uid))  # fmt: skip
        self._holder = str(holder.pid)
        procs = Path(f"/proc/{holder.pid}/root{self._cgroup_dir}/cli/cgroup.procs")
        until("the user has a cgroup", procs.exists)
        stack.callback(self._remove_all)
        self.cli("load", "--quiet", "--input", str(archive))

    def command(self, *words: str | Path) -> list[str]:
        """The command line of a program that runs as the user, in his cgroup."""
        return [
            "nsenter", "--mount", "--target", self._holder, "--wd=/",
            "sh", "-c", self._ENTER, self._cgroup_dir,
            "setpriv", "--reuid", str(self.uid), "--regid", str(self.uid), "--clear-groups",
            "env", f"HOME={self.home}", f"XDG_RUNTIME_DIR={self.home}/run", *map(str, words),
        ]  # fmt: skip

    def cli(self, *arguments: str) -> str:
        return command(*self.command("podman", *arguments))

    def run(self, *program: str, image: str = IMAGE, options: Sequence[str] = ()) -> str:
        """Returns the id of the container, which has started."""
        return self.cli("run", "--detach", "--network", "none", "--cgroup-parent",
                        f"/{self._cgroup}", *options, image, *program)  # fmt: skip

    def inspect(self, container: str) -> Json:
        return cast("Json", json.loads(self.cli("container", "inspect", container))[0])

    def inspect_image(self, name: str = IMAGE) -> Json:
        return cast("Json", json.loads(self.cli("image", "inspect", name))[0])

    def remove(self, *containers: str) -> None:
        self.cli("rm", "--force", "--time", "0", *containers)

    def _remove_all(self) -> None:
        self.cli("rm", "--all", "--force", "--time", "0")
        self.cli("system", "migrate")  # ends the process that keeps his namespaces


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
        cgroup: str = "",
        systemd: bool = False,
        detach: bool = True,
    ) -> str:
        """`container` is its id; it has started when this returns, or, without *detach*, has ended.

        *cgroup*: the specification's cgroupsPath, "slice:prefix:name" where *systemd* makes it.
        """
        bundle = make_bundle(
            self.program,
            self.bundle(container),
            self._rootfs,
            program,
            annotations=annotations,
            cgroup=cgroup,
        )
        driver = ["--systemd-cgroup"] if systemd else []
        mode = ["--detach"] if detach else []
        self.cli(*driver, "run", *mode, "--bundle", bundle, container, state=state)
        if not detach:  # runc has removed all but the bundle
            shutil.rmtree(self.bundle(container))
        return container

    def bundle(self, container: str) -> Path:
        return self._home / container

    def state(self, container: str, state: Path | None = None) -> Json:
        return cast("Json", json.loads(self.cli("state", container, state=state)))

    def remove(self, container: str, state: Path | None = None) -> None:
        self.cli("delete", "--force", container, state=state)
        shutil.rmtree(self.bundle(container))

    def _remove_all(self) -> None:
        for container in self.cli("list", "--quiet").split():
            self.remove(container)
