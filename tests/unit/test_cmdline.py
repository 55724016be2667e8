"""Command lines of OCI runtimes, shims and monitors: as they are written, and as they are not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from ctrwatch.core.cmdline import (
    ConmonCall,
    OciCall,
    ShimCall,
    conmon_call,
    is_container_id,
    oci_call,
    shim_call,
)

CID = "0a1b2c3d4e5f6789" * 4
TASK = f"/run/containerd/io.containerd.runtime.v2.task/moby/{CID}"
USERDATA = f"/var/lib/containers/storage/overlay-containers/{CID}/userdata"
# Each is seen on a host with Debian 12's packages, but for the ids.
BY_CONTAINERD = (
    f"runc --root /var/run/docker/runtime-runc/moby --log {TASK}/log.json --log-format json"
    f" create --bundle {TASK} --pid-file {TASK}/init.pid {CID}"
)
BY_CONMON = (
    f"/usr/bin/crun --systemd-cgroup --root=/run/crun --log-format=json --log /run/l/oci-log"
    f" create --bundle {USERDATA} --pid-file /run/l/pidfile {CID}"
)


def call(**fields: Any) -> OciCall:
    return OciCall(**({"oci_runtime": "runc", "command": "run", "container_id": "web"} | fields))


@pytest.mark.parametrize(
    ("line", "fields"),
    [
        pytest.param(
            BY_CONTAINERD,
            {
                "command": "create",
                "container_id": CID,
                "bundle": TASK,
                "root": "/var/run/docker/runtime-runc/moby",
            },
            id="containerd",
        ),
        pytest.param(
            BY_CONMON,
            {
                "oci_runtime": "crun",
                "command": "create",
                "container_id": CID,
                "bundle": USERDATA,
                "root": "/run/crun",
                "systemd_cgroup": True,
            },
            id="conmon",
        ),
        pytest.param("runc run web", {}, id="runc-in-the-bundle"),
        pytest.param("runc run -b . web", {"bundle": "."}, id="runc-short-flag"),
        pytest.param("runc run web -b /b", {"bundle": "/b"}, id="runc-flag-after-the-id"),
        pytest.param("runc run -bundle=/b=1 web", {"bundle": "/b=1"}, id="runc-one-dash-equals"),
        pytest.param("runc run --detach --keep -- web", {}, id="runc-end-of-flags"),
        pytest.param(
            "crun run -- -web", {"oci_runtime": "crun", "container_id": "-web"}, id="dash"
        ),
        pytest.param(
            "youki -sr /r create -b /b web",
            {
                "oci_runtime": "youki",
                "command": "create",
                "bundle": "/b",
                "root": "/r",
                "systemd_cgroup": True,
            },
            id="youki-letters",
        ),
        pytest.param("runc --debug --systemd-cgroup=false run web", {}, id="runc-switch-off"),
        pytest.param("runc --log  run web".replace("  ", " '' "), {}, id="runc-empty-value"),
        pytest.param(
            "runc --criu /c restore --image-path /i --work-path /w -d -b /b --lazy-pages web",
            {"command": "restore", "bundle": "/b"},
            id="runc-restore",
        ),
        pytest.param("runc --criu create run web", {}, id="value-that-is-a-command"),
        pytest.param("runc run --pid-file --keep web", {}, id="value-that-is-a-flag"),
        pytest.param("runc run --newest-switch web", {}, id="unknown-switch"),
        pytest.param("runc run --newest-flag value web", {}, id="unknown-flag-with-a-value"),
        pytest.param("runc --newest-flag value run web", {}, id="unknown-global-flag"),
        pytest.param("runc run a,b", {"container_id": "a,b"}, id="runc-1.1-takes-a-comma"),
        pytest.param("crun --root= run -d web", {"oci_runtime": "crun"}, id="crun-empty-root"),
        pytest.param(
            "crun --cgroup-manager=systemd run -db/b -f c.json web",
            {"oci_runtime": "crun", "bundle": "/b", "systemd_cgroup": True},
            id="crun-letters",
        ),
        pytest.param("crun run -db /b web", {"oci_runtime": "crun", "bundle": "/b"}, id="crun-db"),
        pytest.param(
            "crun run web:1", {"oci_runtime": "crun", "container_id": "web:1"}, id="crun-colon"
        ),
        pytest.param(
            "youki -r /r -l /l -s create -b /b -p /p web",
            {
                "oci_runtime": "youki",
                "command": "create",
                "bundle": "/b",
                "root": "/r",
                "systemd_cgroup": True,
            },
            id="youki",
        ),
        pytest.param(
            "runsc --platform systrap --root=/r create --bundle /b --user-log /u web",
            {"oci_runtime": "runsc", "command": "create", "bundle": "/b", "root": "/r"},
            id="runsc",
        ),
        pytest.param("/usr/libexec/runc-1.2.4 run web", {}, id="version-in-the-name"),
        pytest.param("./runc.amd64 run web", {}, id="architecture-in-the-name"),
        pytest.param("docker-runc run web", {}, id="docker-runc"),
        pytest.param("/usr/bin/nvidia-container-runtime.cdi run web", {}, id="nvidia"),
        pytest.param(
            "/opt/newrt create --bundle /b web",
            {"oci_runtime": "newrt", "command": "create", "bundle": "/b"},
            id="unknown-runtime",
        ),
    ],
)
def test_a_container_is_made(line: str, fields: dict[str, Any]) -> None:
    argv = [word.replace("''", "") for word in line.split()]

    assert oci_call(argv) == call(**fields)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param("", id="nothing"),
        pytest.param("runc", id="no-command"),
        pytest.param("runc init", id="runc-inside"),
        pytest.param("runc exec web run web", id="exec-of-something-called-run"),
        pytest.param("runc state create", id="state-of-something-called-create"),
        pytest.param("runc --newest-flag a b run web", id="two-words-after-an-unknown-flag"),
        pytest.param("runc --systemd-cgroup state run web", id="no-word-after-a-switch"),
        pytest.param("runc --root create", id="command-taken-as-a-value"),
        pytest.param("runc create --bundle /b", id="no-id"),
        pytest.param("runc run ..", id="parent-directory"),
        pytest.param("runc run a/b", id="slash"),
        pytest.param("runc run a:b", id="runc-takes-no-colon"),
        pytest.param("runc run é", id="runc-takes-ascii"),
        pytest.param(f"runc run {'a' * 256}", id="longer-than-a-file-name"),
        pytest.param(f"runc run -b {'/b' * 2049} web", id="longer-than-a-path"),
        pytest.param("crun run \x1b[2J", id="crun-control-character"),
        pytest.param("docker run -d web", id="docker"),
        pytest.param("npm run build", id="npm"),
        pytest.param("newrt run --bundle /b web", id="unknown-program-runs"),
        pytest.param("newrt create web", id="unknown-program-without-a-bundle"),
    ],
)
def test_no_container_is_made(line: str) -> None:
    assert oci_call(line.split(" ") if line else []) is None


@pytest.mark.parametrize(
    ("line", "container_id", "bundle"),
    [
        pytest.param("runc create --bundle /b --pid-file /p 0a1b", "", "/b", id="in-the-id"),
        pytest.param("runc create --bundle /b --pid-f", "", "/b", id="in-a-flag"),
        pytest.param("runc create --bundle /b/lo", "", "", id="in-the-bundle"),
    ],
)
def test_of_a_cut_command_line_the_last_word_is_not_believed(
    line: str, container_id: str, bundle: str
) -> None:
    said = oci_call(line.split(), cut=True)

    assert said is not None
    assert (said.container_id, said.bundle) == (container_id, bundle)


SHIM = f"/usr/bin/containerd-shim-runc-v2 -namespace moby -id {CID} -address /run/c.sock"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        pytest.param(SHIM, ShimCall(task_id=CID, namespace="moby", address="/run/c.sock"), id="v2"),
        pytest.param(
            "containerd-shim-runc-v1 -namespace=k8s.io --id=web -debug --bundle /b start",
            ShimCall(task_id="web", namespace="k8s.io", bundle="/b"),
            id="equals-and-two-dashes",
        ),
        pytest.param(
            "containerd-shim -namespace moby -workdir /var/lib/containerd/"
            "io.containerd.runtime.v1.linux/moby/0a1b -address /c.sock -containerd-binary"
            " /usr/bin/containerd -runtime-root /r -systemd-cgroup",
            ShimCall(task_id="0a1b", namespace="moby", address="/c.sock"),
            id="v1",
        ),
        pytest.param(
            "containerd-shim-kata-v2 -namespace default -id web",
            ShimCall(task_id="web", namespace="default"),
            id="kata",
        ),
        pytest.param(SHIM.replace("shim", "shin"), None, id="another-program"),
        pytest.param(SHIM.replace("-id", "-di"), None, id="no-id"),
        pytest.param(SHIM.replace("moby", "../moby"), None, id="namespace-that-is-a-path"),
        pytest.param(SHIM.replace("-namespace moby ", ""), None, id="no-namespace"),
        pytest.param(SHIM + "x" * 4096, None, id="address-longer-than-a-path"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_shim(line: str, said: ShimCall | None) -> None:
    assert shim_call(line.split()) == said


CONMON = (
    f"/usr/bin/conmon --api-version 1 -c {CID} -u {CID} -r /usr/bin/runc -b {USERDATA}"
    f" -p /run/pidfile -n web --exit-dir /run/exits --full-attach -s -l k8s-file:/ctr.log"
    " --log-level warning --runtime-arg --log-format=json --runtime-arg --exec"
    " --runtime-arg=/run/oci-log --conmon-pidfile /run/conmon.pid --exit-command /usr/bin/podman"
    " --exit-command-arg -c --exit-command-arg --exec --exit-command-arg -n"
)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        pytest.param(
            CONMON,
            ConmonCall(
                container_id=CID,
                name="web",
                oci_runtime="/usr/bin/runc",
                bundle=USERDATA,
                systemd_cgroup=True,
            ),
            id="podman",
        ),
        pytest.param(
            f"conmon -b /b --cid={CID} --name k8s_app_web_prod_1_0 -r/usr/bin/crun -it",
            ConmonCall(
                container_id=CID,
                name="k8s_app_web_prod_1_0",
                oci_runtime="/usr/bin/crun",
                bundle="/b",
            ),
            id="long-and-joined-flags",
        ),
        pytest.param(CONMON + " --exec", None, id="exec-session"),
        pytest.param(CONMON.replace("-c ", "-C "), None, id="no-id"),
        pytest.param(CONMON.replace("conmon ", "conman "), None, id="another-program"),
        pytest.param(CONMON.replace(f"-c {CID}", "-c ../etc"), None, id="id-that-is-a-path"),
        pytest.param(CONMON + " -b " + "b" * 4097, None, id="bundle-longer-than-a-path"),
    ],
)
def test_conmon(line: str, said: ConmonCall | None) -> None:
    assert conmon_call(line.split()) == said


WORDS = st.one_of(
    st.text(st.characters(), max_size=8),
    st.sampled_from(
        [*BY_CONTAINERD.split(), *BY_CONMON.split(), *CONMON.split(), "-", "--", "-=", "--="]
    ),
)


@given(
    st.sampled_from(["runc", "crun", "conmon", "containerd-shim", "x", ""]),
    st.lists(WORDS, max_size=12),
    st.booleans(),
)
def test_any_command_line_gets_an_answer(program: str, words: list[str], cut: bool) -> None:
    argv = [program, *words]

    made = oci_call(argv, cut=cut)
    if made is not None:
        assert cut or is_container_id(made.container_id, made.oci_runtime)
        assert made.bundle == "" or any(made.bundle in word for word in words)
    shim_call(argv)
    conmon_call(argv)


@given(st.lists(st.sampled_from(["--keep", "--detach", "--pid-file=/p", "-b=/b"]), max_size=4))
def test_the_order_of_flags_and_id_means_nothing(flags: list[str]) -> None:
    bundle = "/b" if "-b=/b" in flags else ""

    for at in range(len(flags) + 1):
        argv = ["runc", "run", *flags[:at], "web", *flags[at:]]
        assert oci_call(argv) == call(bundle=bundle)
