"""Annotations and labels in, facts out: the edges. Real bundles are in test_bundles.py."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, strategies as st

from ctrwatch.core import annotations as module
from ctrwatch.core.annotations import from_labels, who
from ctrwatch.model import Facts, Leads, Missing, Runtime

CID = "0a1b2c3d4e5f6789" * 4
HEX = "f" * 64
CRI_TASK = f"/run/containerd/io.containerd.runtime.v2.task/k8s.io/{CID}"
USERDATA = f"/run/containers/storage/overlay-containers/{CID}/userdata"
CRI = {
    "io.kubernetes.cri.container-type": "container",
    "io.kubernetes.cri.container-name": "app",
    "io.kubernetes.cri.image-name": "ghcr.io/a/b:1",
    "io.kubernetes.cri.sandbox-id": HEX,
    "io.kubernetes.cri.sandbox-name": "web",
}
CRIO = {
    "io.container.manager": "cri-o",
    "io.kubernetes.cri-o.ContainerType": "container",
    "io.kubernetes.cri-o.ImageName": "quay.io/a/b:1",
}


@pytest.mark.parametrize(
    ("bundle", "oci_runtime", "container_id", "runtime"),
    [
        pytest.param(CRI_TASK, "runc", CID, Runtime.CONTAINERD, id="containerd"),
        pytest.param(
            "/x/io.containerd.runtime.v1.linux/moby/a", "", "", Runtime.DOCKER, id="docker-v1"
        ),
        pytest.param(
            "/x/io.containerd.runtime.v2.task/plugins.moby/a", "", "", Runtime.DOCKER, id="plugin"
        ),
        pytest.param(
            "/x/io.containerd.runtime.v2.task/buildkit/a", "", "", Runtime.BUILDKIT, id="buildkitd"
        ),
        pytest.param(
            "/var/lib/buildkit/runc-overlayfs/executor/8har6w5t3a6e07z00m2c9bxk4",
            "runc",
            "8har6w5t3a6e07z00m2c9bxk4",
            Runtime.BUILDKIT,
            id="buildkitd-with-runc",
        ),
        pytest.param("/var/tmp/buildah734222356", "crun", "", Runtime.BUILDAH, id="buildah"),
        pytest.param("/x", "crun", "buildah-buildah734222356", Runtime.BUILDAH, id="buildah-id"),
        pytest.param("/srv/web", "runc", "web", Runtime.RUNC, id="runc"),
        pytest.param("/srv/web", "crun", "web", Runtime.CRUN, id="crun"),
        pytest.param("/srv/web", "youki", "web", None, id="youki"),
        pytest.param(USERDATA, "crun", CID, None, id="storage-of-nobody"),
        pytest.param(
            "/srv/io.containerd.runtime.v2.task/default", "runc", "web", Runtime.RUNC, id="no-id"
        ),
        pytest.param(
            "/var/lib/docker/buildkit/executor/short", "runc", "web", Runtime.RUNC, id="no-step"
        ),
    ],
)
def test_the_place_tells_the_engine(
    bundle: str, oci_runtime: str, container_id: str, runtime: Runtime | None
) -> None:
    assert who({}, bundle, oci_runtime, container_id).runtime is runtime


@pytest.mark.parametrize(
    ("words", "bundle"),
    [
        pytest.param({}, "/run/io.containerd.runtime.v2.task/moby/web", id="docker"),
        pytest.param({}, "/run/io.containerd.runtime.v2.task/default/web", id="containerd"),
        pytest.param(CRI, CRI_TASK, id="cri"),
        pytest.param(CRIO, USERDATA, id="crio"),
    ],
)
def test_a_users_bundle_does_not_speak_for_a_daemon(words: dict[str, str], bundle: str) -> None:
    assert who(words, bundle, "runc").runtime is not None
    said = who(words, bundle, "runc", rootless=True)
    assert msgspec.structs.replace(said, leads=Leads()) == Facts()
    assert said.leads.bundle == bundle  # and a daemon of the user's may still answer


def test_podman_is_every_users() -> None:
    said = who({"io.container.manager": "libpod"}, USERDATA, "crun", rootless=True)
    assert said.runtime is Runtime.PODMAN


def test_a_program_without_an_engine_is_said_to_have_none() -> None:
    said = who({}, "/srv/web", "youki", "web")

    assert said.absent["runtime"] is Missing.HAS_NONE
    assert (said.name, said.leads.oci_runtime) == ("web", "youki")


@pytest.mark.parametrize(
    "bundle",
    [
        pytest.param("/run/containerd/io.containerd.runtime.v2.task/moby/web", id="docker"),
        pytest.param("/run/containerd/io.containerd.runtime.v2.task/default/web", id="ctr"),
        pytest.param("/srv/web", id="runc"),
        pytest.param(USERDATA, id="nobody"),
    ],
)
def test_annotations_of_the_cri_are_not_believed_elsewhere(bundle: str) -> None:
    said = who(CRI, bundle, "runc", "web")

    assert (said.pod_name, said.image) == (None, None)
    assert said.name in {None, "web"}


@pytest.mark.parametrize(
    "bundle", [pytest.param(CRI_TASK, id="containerd"), pytest.param("/srv/web", id="runc")]
)
def test_annotations_of_crio_are_not_believed_elsewhere(bundle: str) -> None:
    assert who(CRIO, bundle, "runc").image is None


@pytest.mark.parametrize(
    ("image", "shown"),
    [
        pytest.param("busybox", "docker.io/library/busybox:latest", id="short"),
        pytest.param(f"sha256:{HEX}", None, id="id"),
        pytest.param("", None, id="empty"),
        pytest.param("Not a name", None, id="no-name"),
    ],
)
def test_image_of_the_cri(image: str, shown: str | None) -> None:
    said = who({**CRI, "io.kubernetes.cri.image-name": image}, CRI_TASK, "runc")

    assert (said.image, said.leads.image_ref) == (shown, image)


def test_image_of_a_sandbox_in_newer_containerds() -> None:
    annotations = {
        "io.kubernetes.cri.container-type": "sandbox",
        "io.kubernetes.cri.podsandbox.image-name": "registry.k8s.io/pause:3.10",
    }

    assert who(annotations, CRI_TASK, "runc").image == "registry.k8s.io/pause:3.10"


def test_nerdctls_name() -> None:
    bundle = f"/run/containerd/io.containerd.runtime.v2.task/default/{CID}"

    assert who({"nerdctl/name": "web"}, bundle, "runc").name == "web"
    assert who({}, bundle, "runc").name == CID


@pytest.mark.parametrize(
    ("annotations", "digest", "absent"),
    [
        pytest.param({}, None, {}, id="does-not-say"),
        pytest.param(
            {"ImageRepoDigests": ""},
            None,
            {"container_image_digest": Missing.NO_REGISTRY_DIGEST},
            id="has-none",
        ),
        pytest.param(
            {"ImageRepoDigests": f"localhost/b@sha256:{CID},quay.io/a/b@sha256:{HEX}"},
            f"sha256:{HEX}",
            {},
            id="of-the-images-own-repository",
        ),
        pytest.param(
            {"ImageRepoDigests": f"localhost/b@sha256:{CID},docker.io/b@sha256:{HEX}"},
            f"sha256:{CID}",
            {},
            id="else-the-first",
        ),
        pytest.param(
            {"ImageRef": f"quay.io/a/b@sha256:{HEX}"}, f"sha256:{HEX}", {}, id="older-crio"
        ),
        pytest.param({"ImageRef": HEX}, None, {}, id="config-digest-is-no-registry-digest"),
        pytest.param({"ImageRef": f"sha256:{HEX}"}, None, {}, id="with-its-algorithm"),
    ],
)
def test_digest_of_crio(
    annotations: dict[str, str], digest: str | None, absent: dict[str, Missing]
) -> None:
    more = {f"io.kubernetes.cri-o.{key}": value for key, value in annotations.items()}
    said = who({**CRIO, **more}, USERDATA, "crun")

    assert (said.image_digest, said.absent) == (digest, absent)
    is_config = annotations.get("ImageRef", "").removeprefix("sha256:") == HEX
    assert said.image_id == (f"sha256:{HEX}" if is_config else None)


@pytest.mark.parametrize("text", ["", "null", "[]", '{"a": 1}', "{"])
def test_labels_of_crio_that_are_none(text: str) -> None:
    said = who({**CRIO, "io.kubernetes.cri-o.Labels": text}, USERDATA, "crun")

    assert said.labels is None


def test_pod_of_crio_from_its_labels() -> None:
    labels = '{"io.kubernetes.pod.namespace": "prod", "io.kubernetes.pod.uid": "1"}'
    said = who({**CRIO, "io.kubernetes.cri-o.Labels": labels}, USERDATA, "crun")

    assert (said.pod_namespace, said.pod_uid) == ("prod", "1")


def test_pod_of_crio_from_a_sandboxes_own_words() -> None:
    words = {"io.kubernetes.cri-o.KubeName": "web", "io.kubernetes.cri-o.Namespace": "prod"}
    said = who({**CRIO, **words}, USERDATA, "crun")

    assert (said.pod_name, said.pod_namespace) == ("web", "prod")


@pytest.mark.parametrize(
    ("labels", "facts"),
    [
        pytest.param({}, Facts(), id="none"),
        pytest.param(
            {
                "io.kubernetes.container.name": "POD",
                "io.kubernetes.pod.name": "web",
                "io.kubernetes.pod.namespace": "prod",
                "io.kubernetes.pod.uid": "1",
                "io.kubernetes.docker.type": "podsandbox",
            },
            Facts(name="POD", pod_name="web", pod_namespace="prod", pod_uid="1", sandbox=True),
            id="cri-dockerd-sandbox",
        ),
        pytest.param(
            {"io.kubernetes.container.name": "app", "io.kubernetes.docker.type": "container"},
            Facts(name="app", sandbox=False),
            id="cri-dockerd-container",
        ),
        pytest.param(
            {"io.cri-containerd.kind": "sandbox"}, Facts(sandbox=True), id="containerd-cri"
        ),
        pytest.param(
            {"nerdctl/name": "web", "nerdctl/namespace": "blue"},
            Facts(name="web", leads=Leads(namespace="blue")),
            id="nerdctl",
        ),
        pytest.param({"io.kubernetes.docker.type": "other"}, Facts(), id="unknown-type"),
        pytest.param({"io.kubernetes.pod.name": ""}, Facts(), id="empty"),
        pytest.param(
            {"io.kubernetes.pod.name": "x" * 600}, Facts(pod_name="x" * 511 + "…"), id="long"
        ),
    ],
)
def test_from_labels(labels: dict[str, str], facts: Facts) -> None:
    assert from_labels(labels) == facts


def test_labels_are_bounded_and_say_so() -> None:
    some = {f"label-{number}": "x" * 1000 for number in range(100)}
    labels = who(some, "/srv/web", "runc", "web").labels

    assert labels is not None
    assert sum(len(key) + len(value) for key, value in labels.items()) <= module.LABELS_MAX + 20
    assert labels["…"] == f"{100 - (len(labels) - 1)} more"


KEYS = st.sampled_from(
    [
        "io.container.manager",
        *(f"io.kubernetes.cri-o.{key}" for key in ("Labels", "ImageRef", "Image", "MountPoint")),
        *(
            f"io.kubernetes.cri-o.{key}"
            for key in ("ImageRepoDigests", "ContainerType", "SandboxID")
        ),
        *CRI,
        *CRIO,
    ]
)
VALUES = st.one_of(
    st.text(max_size=20), st.sampled_from(["cri-o", "libpod", "sandbox", "container", "{}", HEX])
)
BUNDLES = st.one_of(
    st.text("/abc-.0", max_size=40), st.sampled_from([CRI_TASK, USERDATA, "/srv/web", ""])
)


@given(st.dictionaries(KEYS, VALUES), BUNDLES, st.text(max_size=8), st.text(max_size=300))
def test_any_annotations_are_facts(
    annotations: dict[str, str], bundle: str, oci_runtime: str, container_id: str
) -> None:
    said = who(annotations, bundle, oci_runtime, container_id)

    msgspec.json.encode(said)
    assert said.leads.bundle == bundle
    assert said.name is None or "container_name" not in said.absent


@pytest.mark.parametrize(
    ("bundle", "container_id"),
    [
        pytest.param("/x/io.containerd.runtime.v2.task/d\udce9/caf\udce9", "web", id="a-task"),
        pytest.param("/srv/web", "caf\udce9", id="a-state-directory"),
    ],
)
def test_a_directory_that_is_no_utf8_names_what_can_be_written(
    bundle: str, container_id: str
) -> None:
    facts = who({}, bundle, "runc", container_id)

    assert facts.name == "caf\\xe9"
