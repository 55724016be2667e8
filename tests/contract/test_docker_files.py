"""The source "docker.files" against what a real dockerd wrote, and against what none would."""

import json
import os
import shutil
from pathlib import Path

import pytest

from ctrwatch.evidence.docker import DockerFiles, image_facts
from ctrwatch.evidence.files import Readers
from ctrwatch.model import Leads, Missing, Runtime
from tests.contract.data import DATA, found, ids, is_not_found, subject, why

ROOT = DATA / "docker/root"
IDS = ids("docker")
IMAGE_ID = "sha256:4aeeaa4100280ac036fd9bbc3b0380507450417d71c75f5c79159295a4d8400c"
DIGEST = "sha256:d57f7ac48e08c2ac100242085bf8bfcb42ceeaddadd83a639fa05e8a52400928"
NOT_IN_POD = dict.fromkeys(("pod_name", "pod_namespace", "pod_uid"), Missing.NOT_IN_POD)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data root to break."""
    return Path(shutil.copytree(ROOT, tmp_path / "docker"))


def config(root: Path, name: str = "by-name") -> Path:
    return root / "containers" / IDS[name] / "config.v2.json"


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("by-name", "docker.io/library/busybox:local"),
        ("by-registry", "127.0.0.1:5055/app/web:1"),
        ("by-id", IMAGE_ID),
        ("by-shortid", IMAGE_ID),
        ("by-digest", f"127.0.0.1:5055/app/web@{DIGEST}"),
    ],
)
async def test_recorded_container(readers: Readers, name: str, image: str) -> None:
    facts = found(await DockerFiles(readers, [str(ROOT)]).ask(subject(IDS[name])))
    assert facts.runtime is Runtime.DOCKER
    assert (facts.name, facts.image, facts.image_id) == (name, image, IMAGE_ID)
    assert facts.image_digest == DIGEST
    assert facts.absent == NOT_IN_POD
    assert facts.leads.docker_root == str(ROOT)


async def test_labels_and_time(readers: Readers) -> None:
    facts = found(await DockerFiles(readers, [str(ROOT)]).ask(subject(IDS["by-name"])))
    assert facts.labels == {"team": "a", "multi.line": "x"}
    assert facts.created_ns == 1795479469202706797


async def test_image_made_here_has_no_registry_digest(readers: Readers) -> None:
    facts = found(await DockerFiles(readers, [str(ROOT)]).ask(subject(IDS["built-here"])))
    assert facts.image == "docker.io/library/onlyhere:3"
    assert facts.image_digest is None
    assert facts.absent == {**NOT_IN_POD, "container_image_digest": Missing.NO_REGISTRY_DIGEST}


async def test_bundles_data_root_comes_first(readers: Readers, tmp_path: Path) -> None:
    source = DockerFiles(readers, [str(tmp_path)])
    leads = Leads(docker_root=str(ROOT))
    assert found(await source.ask(subject(IDS["by-name"], leads))).name == "by-name"
    assert is_not_found(await source.ask(subject(IDS["by-name"])))


@pytest.mark.parametrize("name", ["", "web", "../" + "a" * 64, "A" * 64, "a" * 63])
async def test_what_is_no_id_is_never_part_of_a_path(readers: Readers, name: str) -> None:
    assert is_not_found(await DockerFiles(readers, [str(ROOT)]).ask(subject(name)))


async def test_records_of_another_user_are_not_there(readers: Readers) -> None:
    """A user's cgroup may be named like a container of root's Docker."""
    source = DockerFiles(readers, [str(ROOT)])
    assert is_not_found(await source.ask(subject(IDS["by-name"], uid=os.getuid() + 1)))


async def test_pod_of_cri_dockerd(readers: Readers, root: Path) -> None:
    record = json.loads(config(root).read_text())
    record["Name"] = "/k8s_app_web_prod_3f1c0e6a_0"
    record["Config"]["Labels"] = {
        "io.kubernetes.container.name": "app",
        "io.kubernetes.pod.name": "web",
        "io.kubernetes.pod.namespace": "prod",
        "io.kubernetes.pod.uid": "3f1c0e6a-5f0b-4c61-9a55-0d3f7a9b1c22",
        "io.kubernetes.docker.type": "container",
    }
    config(root).write_text(json.dumps(record))
    facts = found(await DockerFiles(readers, [str(root)]).ask(subject(IDS["by-name"])))
    assert (facts.name, facts.pod_name, facts.pod_namespace) == ("app", "web", "prod")
    assert facts.pod_uid == "3f1c0e6a-5f0b-4c61-9a55-0d3f7a9b1c22"
    assert facts.absent == {}


async def test_absurd_name_and_labels_are_cut(readers: Readers, root: Path) -> None:
    record = json.loads(config(root).read_text())
    record["Name"] = "/" + "n" * 5000
    record["Config"]["Labels"] = {"small": "1", "large": "x" * (1 << 20), "last": "1"}
    config(root).write_text(json.dumps(record))
    facts = found(await DockerFiles(readers, [str(root)]).ask(subject(IDS["by-name"])))
    assert facts.name == "n" * 511 + "…"
    assert facts.labels == {"small": "1", "…": "2 more"}


async def test_containerd_image_store_leaves_the_digests_to_the_api(
    readers: Readers, root: Path
) -> None:
    shutil.rmtree(root / "image")
    record = json.loads(config(root).read_text())
    record["Driver"] = "overlayfs"
    config(root).write_text(json.dumps(record))
    facts = found(await DockerFiles(readers, [str(root)]).ask(subject(IDS["by-name"])))
    assert facts.image == "docker.io/library/busybox:local"
    assert facts.image_id is None
    assert facts.image_digest is None
    assert "container_image_digest" not in facts.absent


async def test_index_is_read_again_when_it_changes(readers: Readers, root: Path) -> None:
    source = DockerFiles(readers, [str(root)])
    built = subject(IDS["built-here"])
    assert found(await source.ask(built)).image_digest is None
    index = root / "image/overlay2/repositories.json"
    known = json.loads(index.read_text())
    image_id = known["Repositories"]["onlyhere"]["onlyhere:3"]
    known["Repositories"]["onlyhere"][f"onlyhere@{DIGEST}"] = image_id
    (root / "new").write_text(json.dumps(known))
    (root / "new").rename(index)
    assert found(await source.ask(built)).image_digest == DIGEST


def write_nothing(path: Path) -> None:
    path.write_bytes(b"")


def write_binary(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00")


def write_wrong_types(path: Path) -> None:
    path.write_text('{"ID": 1, "Config": []}')


def write_surrogates(path: Path) -> None:
    path.write_bytes(b'{"ID": "\xed\xa0\x80", "Config": {}}')


def write_deep(path: Path) -> None:
    path.write_text('{"ID":' + "[" * 100_000)


def write_another(path: Path) -> None:
    path.write_text(json.dumps({"ID": "f" * 64, "Config": {}}))


def make_large(path: Path) -> None:
    os.truncate(path, 100 << 20)


def make_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def make_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


BREAK = (
    write_nothing, write_binary, write_wrong_types, write_surrogates, write_deep, write_another,
    make_large, make_link, make_fifo,
)  # fmt: skip


@pytest.mark.parametrize("break_it", BREAK)
async def test_broken_record_is_unavailable(readers: Readers, root: Path, break_it: object) -> None:
    break_it(config(root))  # type: ignore[operator]
    answer = await DockerFiles(readers, [str(root)]).ask(subject(IDS["by-name"]))
    assert why(answer).startswith("docker.files: ")
    assert "config.v2.json" in why(answer)


@pytest.mark.parametrize("break_it", BREAK)
async def test_broken_index_costs_only_the_digest(
    readers: Readers, root: Path, break_it: object
) -> None:
    break_it(root / "image/overlay2/repositories.json")  # type: ignore[operator]
    facts = found(await DockerFiles(readers, [str(root)]).ask(subject(IDS["by-name"])))
    assert facts.name == "by-name"
    assert facts.image_digest is None


@pytest.mark.parametrize(
    ("named", "references", "image"),
    [
        ("4aee", [], IMAGE_ID),
        ("4aee", ["4aee:latest"], "docker.io/library/4aee:latest"),
        ("cafe", ["busybox:1"], "docker.io/library/cafe:latest"),
        ("busybox", ["busybox:latest"], "docker.io/library/busybox:latest"),
    ],
)
def test_short_ids_and_names_that_look_like_them(
    named: str, references: list[str], image: str
) -> None:
    assert image_facts(named, IMAGE_ID, references).image == image


def test_of_several_digests_that_of_the_named_repository_is_taken() -> None:
    one, two = f"a.example/x@sha256:{'1' * 64}", f"b.example/x@sha256:{'2' * 64}"
    for named, digest in (("a.example/x:1", "1"), ("b.example/x:1", "2"), ("c.example/x:1", "1")):
        assert image_facts(named, IMAGE_ID, [two, one]).image_digest == "sha256:" + digest * 64


def test_the_digest_that_was_asked_for_is_the_one() -> None:
    one, two = f"a.example/x@sha256:{'1' * 64}", f"a.example/x@sha256:{'2' * 64}"
    for named in (two, f"a.example/x:1@sha256:{'2' * 64}"):
        facts = image_facts(named, IMAGE_ID, [one, two])
        assert facts.image_digest == "sha256:" + "2" * 64
        assert facts.leads.digests == ("sha256:" + "2" * 64,)


def test_which_of_several_digests_a_tag_stands_for_is_left_open() -> None:
    digests = [f"a.example/x@sha256:{digit * 64}" for digit in "31"]
    facts = image_facts("a.example/x:1", IMAGE_ID, [*digests, f"b.example/x@sha256:{'0' * 64}"])
    assert facts.leads.digests == ("sha256:" + "1" * 64, "sha256:" + "3" * 64)
