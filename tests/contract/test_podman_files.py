"""The source "podman.files" against what a real Podman wrote, and against a broken storage."""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ctrwatch.evidence import bolt
from ctrwatch.evidence.files import Readers
from ctrwatch.evidence.podman import PodmanFiles
from ctrwatch.model import Leads, Missing, Runtime
from tests.contract.data import DATA, found, ids, is_not_found, subject, why

ROOT = DATA / "podman/root"
IDS = ids("podman")
POD = "d59d0d683a5faa0c3eb7f19ca78fe8b7d9895371a718fa4877da667168817763"
INFRAS_POD = "135a2fb390ee86541a20d969aca3fa51bbfa8659079378dc0eff1fa40bb5dab0"
DIGEST = "sha256:5fd8a90290236db901b58fe9b4ba5c3aaacc374996d16e51a621baaf23d18942"
NOT_IN_POD = dict.fromkeys(("pod_name", "pod_namespace", "pod_uid"), Missing.NOT_IN_POD)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A graph root to break."""
    return Path(shutil.copytree(ROOT, tmp_path / "storage"))


def document(bucket: bytes, key: str) -> bytes:
    raw = (ROOT / "libpod/bolt_state.db").read_bytes()
    path = (bucket, key.encode(), b"config")
    [value] = bolt.lookup(lambda size, at: raw[at : at + size], [path])
    assert value is not None
    return value


def to_sqlite(root: Path, place: str) -> Path:
    """The same documents as Podman 4.8 and later keep them."""
    path = root / place
    with closing(sqlite3.connect(path)) as database, database:
        database.execute(
            "CREATE TABLE ContainerConfig(ID TEXT PRIMARY KEY NOT NULL, Name TEXT UNIQUE NOT NULL,"
            " PodID TEXT, JSON TEXT NOT NULL)"
        )
        database.execute(
            "CREATE TABLE PodConfig(ID TEXT PRIMARY KEY NOT NULL, Name TEXT UNIQUE NOT NULL,"
            " JSON TEXT NOT NULL)"
        )
        for name, container_id in IDS.items():
            row = (container_id, name, None, document(b"ctr", container_id).decode())
            database.execute("INSERT INTO ContainerConfig VALUES (?, ?, ?, ?)", row)
        for name, pod in (("mypod", INFRAS_POD), ("mypod2", POD)):
            row = (pod, name, None, document(b"pod", pod).decode())
            database.execute("INSERT INTO PodConfig VALUES (?, ?, ?)", (pod, name, row[3]))
    (root / "libpod/bolt_state.db").unlink()
    return path


@pytest.fixture(params=["bolt", "db.sql", "libpod/db.sql"])
def any_database(request: pytest.FixtureRequest, root: Path) -> Path:
    if request.param != "bolt":
        to_sqlite(root, request.param)
    return root


async def test_container(readers: Readers, any_database: Path) -> None:
    facts = found(await PodmanFiles(readers, [str(any_database)]).ask(subject(IDS["pd-one"])))
    assert facts.runtime is Runtime.PODMAN
    assert (facts.name, facts.image) == ("pd-one", "docker.io/library/app:1")
    assert (facts.image_digest, facts.digest_kind) == (DIGEST, "manifest")
    assert facts.image_id
    assert facts.labels == {"team": "b"}
    assert facts.sandbox is False
    assert facts.created_ns == 1795479471746439998
    assert facts.absent == NOT_IN_POD
    assert facts.leads == Leads(graph_root=str(any_database))


async def test_pod_and_its_infra_container(readers: Readers, any_database: Path) -> None:
    source = PodmanFiles(readers, [str(any_database)])
    member = found(await source.ask(subject(IDS["pd-in-pod"])))
    assert (member.pod_name, member.pod_uid, member.sandbox) == ("mypod2", POD, False)
    assert member.absent == {"pod_namespace": Missing.HAS_NONE}
    infra = found(await source.ask(subject(IDS["infra"])))
    assert (infra.pod_name, infra.pod_uid, infra.sandbox) == ("mypod", INFRAS_POD, True)


async def test_root_file_system_has_no_image(readers: Readers, any_database: Path) -> None:
    facts = found(await PodmanFiles(readers, [str(any_database)]).ask(subject(IDS["pd-rootfs"])))
    no_image = dict.fromkeys(("container_image", "container_image_digest"), Missing.NO_IMAGE)
    assert facts.absent == {**NOT_IN_POD, **no_image}


async def test_unknown_container(readers: Readers, any_database: Path, tmp_path: Path) -> None:
    for root in (any_database, tmp_path / "none"):
        assert is_not_found(await PodmanFiles(readers, [str(root)]).ask(subject("f" * 64)))


async def test_what_is_no_id_is_not_podmans(readers: Readers) -> None:
    assert is_not_found(await PodmanFiles(readers, [str(ROOT)]).ask(subject("../" + "f" * 64)))


async def test_storage_without_its_database(readers: Readers, root: Path) -> None:
    (root / "libpod/bolt_state.db").unlink()
    facts = found(await PodmanFiles(readers, [str(root)]).ask(subject(IDS["pd-one"])))
    assert (facts.name, facts.image) == ("pd-one", "docker.io/library/app:1")
    assert facts.image_digest == DIGEST
    assert facts.runtime is None  # who uses the storage is not said
    assert facts.labels is None


async def test_crio_container_in_the_same_storage(readers: Readers, tmp_path: Path) -> None:
    for recorded, place in (
        ("storage_volatile_containers.json", "overlay-containers/volatile-containers.json"),
        ("storage_images.json", "overlay-images/images.json"),
    ):
        (tmp_path / place).parent.mkdir()
        shutil.copy(DATA / "crio" / recorded, tmp_path / place)
    source = PodmanFiles(readers, [str(tmp_path)])
    sandbox_id = "e4c33e5cd03cf9c72346da7d6cb6b5d6505a1d2281c192e71e3be26bdc9acc49"
    container_id = "a11b7284bf8a76d1bdecd52c7ebc515086de3f827cd127620bc973fde4f0cb2a"
    facts = found(await source.ask(subject(container_id)))
    assert (facts.runtime, facts.name, facts.sandbox) == (Runtime.CRIO, "app", False)
    assert facts.leads.sandbox_id == sandbox_id
    assert facts.image_digest
    sandbox = found(await source.ask(subject(sandbox_id)))
    assert (sandbox.sandbox, sandbox.pod_namespace) == (True, "prod")


async def test_database_that_is_being_written_is_unavailable(readers: Readers, root: Path) -> None:
    path = to_sqlite(root, "db.sql")
    journal = path.with_name("db.sql-journal")
    journal.touch()
    source = PodmanFiles(readers, [str(root)])
    assert "it is being written" in why(await source.ask(subject(IDS["pd-one"])))
    journal.unlink()
    assert found(await source.ask(subject(IDS["pd-one"]))).name == "pd-one"


async def test_reading_takes_no_lock_and_leaves_no_file(readers: Readers, root: Path) -> None:
    path = to_sqlite(root, "db.sql")
    before = sorted(os.listdir(root))
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as podman:
        podman.execute("BEGIN EXCLUSIVE")
        answer = await PodmanFiles(readers, [str(root)]).ask(subject(IDS["pd-one"]))
        assert found(answer).name == "pd-one"
        podman.execute("COMMIT")
    assert sorted(os.listdir(root)) == before


def write_nothing(path: Path) -> None:
    path.write_bytes(b"")


def write_garbage(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 64)


def cut(path: Path) -> None:
    os.truncate(path, 9000)  # behind the meta pages, before all else


def make_link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def make_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("break_it", [write_nothing, write_garbage, cut, make_link, make_fifo])
async def test_broken_database_costs_what_only_it_knows(
    readers: Readers, any_database: Path, break_it: object
) -> None:
    places = ("db.sql", "libpod/db.sql", "libpod/bolt_state.db")
    [path] = [any_database / place for place in places if (any_database / place).exists()]
    break_it(path)  # type: ignore[operator]
    source = PodmanFiles(readers, [str(any_database)])
    assert found(await source.ask(subject(IDS["pd-one"]))).name == "pd-one"
    assert why(await source.ask(subject("f" * 64))).startswith("podman.files: ")


HOSTILE = {
    "view": "CREATE VIEW ContainerConfig AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL"
    " SELECT i + 1 FROM n) SELECT i AS ID, i AS JSON FROM n",
    "number": "CREATE TABLE ContainerConfig(ID, JSON)",
    "no table": "CREATE TABLE Other(ID)",
}


@pytest.mark.parametrize("statement", HOSTILE.values(), ids=HOSTILE)
async def test_hostile_database_is_unavailable(
    readers: Readers, tmp_path: Path, statement: str
) -> None:
    with closing(sqlite3.connect(tmp_path / "db.sql")) as database, database:
        database.execute(statement)
        if "TABLE ContainerConfig" in statement:
            database.execute("INSERT INTO ContainerConfig VALUES (?, 7)", ("f" * 64,))
    answer = await PodmanFiles(readers, [str(tmp_path)]).ask(subject("f" * 64))
    assert why(answer).startswith("podman.files: ")


@pytest.mark.parametrize("text", ["", "[", '{"id": 1}', "[[" * 100_000, '[{"id": 7}]'])
async def test_broken_index(readers: Readers, root: Path, text: str) -> None:
    (root / "libpod/bolt_state.db").unlink()
    (root / "overlay-containers/containers.json").write_text(text)
    answer = await PodmanFiles(readers, [str(root)]).ask(subject(IDS["pd-one"]))
    assert is_not_found(answer) if not text else why(answer)


async def test_broken_image_index_costs_only_the_digest(readers: Readers, root: Path) -> None:
    (root / "overlay-images/images.json").write_text("[")
    facts = found(await PodmanFiles(readers, [str(root)]).ask(subject(IDS["pd-one"])))
    assert (facts.name, facts.image_digest) == ("pd-one", None)
    assert "container_image_digest" not in facts.absent
