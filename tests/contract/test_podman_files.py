"""The source "podman.files" against what a real Podman wrote, and against a broken storage."""

import os
import pwd
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from ctrwatch.evidence import bolt, libpod
from ctrwatch.evidence.files import Readers
from ctrwatch.evidence.podman import PodmanFiles
from ctrwatch.evidence.storage import Storages
from ctrwatch.model import Answer, Found, Leads, Missing, Runtime
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


async def ask(readers: Readers, root: Path, container_id: str) -> Answer:
    leads = Leads(graph_root=str(root))
    return await PodmanFiles(readers).ask(subject(container_id, leads))


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
    facts = found(await ask(readers, any_database, IDS["pd-one"]))
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
    member = found(await ask(readers, any_database, IDS["pd-in-pod"]))
    assert (member.pod_name, member.pod_uid, member.sandbox) == ("mypod2", POD, False)
    assert member.absent == {"pod_namespace": Missing.HAS_NONE}
    infra = found(await ask(readers, any_database, IDS["infra"]))
    assert (infra.pod_name, infra.pod_uid, infra.sandbox) == ("mypod", INFRAS_POD, True)


async def test_root_file_system_has_no_image(readers: Readers, any_database: Path) -> None:
    facts = found(await ask(readers, any_database, IDS["pd-rootfs"]))
    no_image = dict.fromkeys(("container_image", "container_image_digest"), Missing.NO_IMAGE)
    assert facts.absent == {**NOT_IN_POD, **no_image}


async def test_unknown_container(readers: Readers, any_database: Path, tmp_path: Path) -> None:
    for root in (any_database, tmp_path / "none"):
        assert is_not_found(await ask(readers, root, "f" * 64))


async def test_what_is_no_id_is_not_podmans(readers: Readers) -> None:
    assert is_not_found(await ask(readers, ROOT, "../" + "f" * 64))


async def test_storage_without_its_database(readers: Readers, root: Path) -> None:
    (root / "libpod/bolt_state.db").unlink()
    facts = found(await ask(readers, root, IDS["pd-one"]))
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
    sandbox_id = "e4c33e5cd03cf9c72346da7d6cb6b5d6505a1d2281c192e71e3be26bdc9acc49"
    container_id = "a11b7284bf8a76d1bdecd52c7ebc515086de3f827cd127620bc973fde4f0cb2a"
    facts = found(await ask(readers, tmp_path, container_id))
    assert (facts.runtime, facts.name, facts.sandbox) == (Runtime.CRIO, "app", False)
    assert facts.leads.sandbox_id == sandbox_id
    assert facts.image_digest
    sandbox = found(await ask(readers, tmp_path, sandbox_id))
    assert (sandbox.sandbox, sandbox.pod_namespace) == (True, "prod")


async def test_database_that_is_being_written_is_unavailable(readers: Readers, root: Path) -> None:
    path = to_sqlite(root, "db.sql")
    journal = path.with_name("db.sql-journal")
    journal.touch()
    assert "it is being written" in why(await ask(readers, root, IDS["pd-one"]))
    journal.unlink()
    assert found(await ask(readers, root, IDS["pd-one"])).name == "pd-one"


async def test_reading_takes_no_lock_and_leaves_no_file(readers: Readers, root: Path) -> None:
    path = to_sqlite(root, "db.sql")
    before = sorted(os.listdir(root))
    with closing(sqlite3.connect(path, isolation_level=None, timeout=0)) as podman:
        podman.execute("BEGIN EXCLUSIVE")
        answer = await ask(readers, root, IDS["pd-one"])
        assert found(answer).name == "pd-one"
        podman.execute("COMMIT")
    assert sorted(os.listdir(root)) == before


async def test_a_transaction_that_comes_between_is_seen(
    readers: Readers, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its journal is gone before and after; SQLite's own counter of transactions tells."""
    path, query, written = to_sqlite(root, "db.sql"), libpod._query, 0

    def write_and_query(*arguments: Any) -> libpod.Record | None:
        nonlocal written
        written += 1
        times = path.stat()
        with closing(sqlite3.connect(path)) as podman, podman:
            podman.execute("UPDATE ContainerConfig SET PodID = ?", (str(written),))
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # a clock tick is 4 ms
        return query(*arguments)

    monkeypatch.setattr(libpod, "_query", write_and_query)
    answer = await ask(readers, root, IDS["pd-one"])
    assert "it was written while it was read" in why(answer)
    assert written == libpod._TRIES
    monkeypatch.undo()
    assert found(await ask(readers, root, IDS["pd-one"])).name == "pd-one"


async def test_storage_of_another_user_says_nothing(readers: Readers, any_database: Path) -> None:
    leads = Leads(graph_root=str(any_database))
    answer = await PodmanFiles(readers).ask(subject(IDS["pd-one"], leads, uid=os.getuid() + 1))
    assert "it belongs to uid" in why(answer)


# --- storage.conf ---------------------------------------------------------------------


class Host:
    """Its configuration, and a home of whoever runs the tests, in a root of their own."""

    def __init__(self, root: Path, readers: Readers) -> None:
        self.root = root
        self.home = root / pwd.getpwuid(os.getuid()).pw_dir[1:]
        self.source = PodmanFiles(readers, Storages(readers, system=("/etc", "/usr")))

    def system(self, text: str, directory: str = "etc") -> None:
        (self.root / directory).mkdir()
        (self.root / directory / "storage.conf").write_text(text)

    def user(self, text: str) -> None:
        (self.home / ".config/containers").mkdir(parents=True)
        (self.home / ".config/containers/storage.conf").write_text(text)

    def store(self, place: str) -> Path:
        return Path(shutil.copytree(ROOT, self.root / place))

    async def name(self) -> str | None:
        answer = await self.source.ask(subject(IDS["pd-one"], Leads(root=str(self.root))))
        return answer.facts.name if isinstance(answer, Found) else None


@pytest.fixture
def host(tmp_path: Path, readers: Readers) -> Host:
    return Host(tmp_path, readers)


as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root's storage.conf says that")
as_user = pytest.mark.skipif(os.getuid() == 0, reason="only a user has one of his own")


@as_root
@pytest.mark.parametrize("directory", ["etc", "usr"])
async def test_root_s_graph_root(host: Host, directory: str) -> None:
    host.system('[storage]\ngraphroot = "/data/storage"\n', directory)
    host.store("data/storage")
    assert await host.name() == "pd-one"


@as_root
async def test_the_administrators_file_replaces_the_distributions(host: Host) -> None:
    host.system('[storage]\ngraphroot = "/data/storage"\n', "usr")
    host.system("[storage]\n")
    host.store("data/storage")
    assert await host.name() is None


@as_user
async def test_users_default_is_in_his_home(host: Host) -> None:
    host.store(str(host.home / ".local/share/containers/storage"))
    assert await host.name() == "pd-one"


@as_user
async def test_users_own_graph_root(host: Host) -> None:
    host.system('[storage]\ngraphroot = "/not/his"\nrootless_storage_path = "/not/either"\n')
    host.user('[storage]\ngraphroot = "/data/$UID"\n')
    host.store(f"data/{os.getuid()}")
    assert await host.name() == "pd-one"


@pytest.mark.parametrize(
    "text",
    [
        '[storage.options]\nadditionalimagestores = ["relative", "/none", "/shared"]',
        '[storage]\nimagestore = "/shared"',
    ],
    ids=["additional", "imagestore"],
)
@as_root
async def test_images_of_another_store(host: Host, text: str) -> None:
    host.system(text)
    storage, shared = host.store("storage"), host.store("shared")
    shutil.rmtree(storage / "overlay-images")
    shutil.rmtree(shared / "overlay-containers")
    leads = Leads(root=str(host.root), graph_root="/storage")
    facts = found(await host.source.ask(subject(IDS["pd-one"], leads)))
    assert (facts.image_digest, facts.digest_kind) == (DIGEST, "manifest")


@pytest.mark.parametrize(
    "text", ["[storage", "[[" * 20_000, "storage = 7", "\0", "[storage]\ngraphroot = 7"]
)
async def test_broken_storage_conf_is_none(host: Host, text: str) -> None:
    host.system(text)
    host.user(text)
    assert await host.name() is None


@pytest.mark.parametrize(
    ("uid", "conf", "places"),
    [
        pytest.param(0, "", ["/var/lib/containers/storage"], id="root"),
        pytest.param(0, 'graphroot = "/data"', ["/data"], id="root-elsewhere"),
        pytest.param(
            65534, 'rootless_storage_path = "/data/$USER-${UID}"', ["/data/nobody-65534"], id="user"
        ),
        pytest.param(
            65534, 'graphroot = "/data"', ["~/.local/share/containers/storage"], id="home"
        ),
        pytest.param(165_536, 'graphroot = "/data"', [], id="nobodys-id"),
    ],
)
@as_root
async def test_where_containers_are_looked_for(
    host: Host, readers: Readers, uid: int, conf: str, places: list[str]
) -> None:
    host.system(f"[storage]\n{conf}\n")
    storages = Storages(readers, system=["/etc"])
    found = await storages.of(subject("x", Leads(root=str(host.root)), uid=uid))
    home = pwd.getpwuid(65534).pw_dir
    assert [tree.base for tree in found.graph_roots] == [
        place.replace("~", home) for place in places
    ]
    assert {tree.uid for tree in found.graph_roots} <= {uid}


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
    assert found(await ask(readers, any_database, IDS["pd-one"])).name == "pd-one"
    assert why(await ask(readers, any_database, "f" * 64)).startswith("podman.files: ")


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
    answer = await ask(readers, tmp_path, "f" * 64)
    assert why(answer).startswith("podman.files: ")


async def test_a_schema_that_is_no_utf8_is_unavailable(readers: Readers, root: Path) -> None:
    """SQLite quotes it in its message, which Python then can't decode."""
    path = to_sqlite(root, "db.sql")
    raw = path.read_bytes()
    path.write_bytes(
        raw.replace(b"CREATE TABLE ContainerConfig(", b"CREATE TABLE \xefontainerConfig(")
    )
    answer = await ask(readers, root, "f" * 64)
    assert why(answer).startswith("podman.files: ")


@pytest.mark.parametrize("text", ["", "[", '{"id": 1}', "[[" * 100_000, '[{"id": 7}]'])
async def test_broken_index(readers: Readers, root: Path, text: str) -> None:
    (root / "libpod/bolt_state.db").unlink()
    (root / "overlay-containers/containers.json").write_text(text)
    answer = await ask(readers, root, IDS["pd-one"])
    assert is_not_found(answer) if not text else why(answer)


async def test_broken_image_index_costs_only_the_digest(readers: Readers, root: Path) -> None:
    (root / "overlay-images/images.json").write_text("[")
    facts = found(await ask(readers, root, IDS["pd-one"]))
    assert (facts.name, facts.image_digest) == ("pd-one", None)
    assert "container_image_digest" not in facts.absent
