"""Which image a container of Podman's was made from, in a storage made for the question."""

from __future__ import annotations

import base64
import json
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from ctrwatch.evidence.files import Readers
from ctrwatch.evidence.podman import PodmanFiles
from ctrwatch.model import Facts, Leads, Missing
from tests.contract.data import found, subject

ID, IMAGE_ID = "f" * 64, "4aee" + "a" * 60
INDEX, MANIFEST = "sha256:" + "1" * 64, "sha256:" + "2" * 64
CONTENT = {INDEX: {"manifests": []}, MANIFEST: {"config": {"digest": f"sha256:{IMAGE_ID}"}}}
WEB = "r.example/web:1"


class Storage:
    """Like Podman 4.8's; *first* is what the image was first stored with."""

    def __init__(self, root: Path, readers: Readers) -> None:
        self.root, self._readers = root, readers
        self.image: dict[str, object] = {
            "id": IMAGE_ID,
            "digest": MANIFEST,
            "names": [WEB],
            "big-data-digests": {f"manifest-{digest}": digest for digest in CONTENT},
        }
        directory = root / "overlay-images" / IMAGE_ID
        directory.mkdir(parents=True)
        for digest, content in CONTENT.items():
            key = base64.b64encode(f"manifest-{digest}".encode()).decode()
            (directory / f"={key}").write_text(json.dumps(content))

    async def says(self, resolved: str, asked: str = "") -> Facts:
        """Of a container of that image, which Podman *resolved* from what was *asked* for."""
        container = {
            "id": ID,
            "rootfsImageID": IMAGE_ID,
            "rootfsImageName": resolved,
            "RawImageName": asked or resolved,
        }
        with closing(sqlite3.connect(self.root / "db.sql")) as database, database:
            database.execute("CREATE TABLE ContainerConfig(ID TEXT PRIMARY KEY, JSON TEXT)")
            database.execute("CREATE TABLE PodConfig(ID TEXT PRIMARY KEY, JSON TEXT)")
            database.execute(
                "INSERT INTO ContainerConfig VALUES (?, ?)", (ID, json.dumps(container))
            )
        (self.root / "overlay-images/images.json").write_text(json.dumps([self.image]))
        leads = Leads(graph_root=str(self.root))
        return found(await PodmanFiles(self._readers).ask(subject(ID, leads)))


@pytest.fixture
def storage(tmp_path: Path, readers: Readers) -> Storage:
    return Storage(tmp_path, readers)


@pytest.mark.parametrize(
    ("resolved", "digest", "kind"),
    [
        (WEB, INDEX, "index"),
        (f"r.example/web@{MANIFEST}", MANIFEST, "manifest"),
        (f"r.example/web@{INDEX}", INDEX, "index"),
    ],
    ids=["a-tag-is-the-index", "its-manifest-was-asked-for", "the-index-was-asked-for"],
)
async def test_of_several_digests(storage: Storage, resolved: str, digest: str, kind: str) -> None:
    facts = await storage.says(resolved)
    assert (facts.image, facts.image_digest, facts.digest_kind) == (resolved, digest, kind)
    assert facts.image_id == f"sha256:{IMAGE_ID}"


@pytest.mark.parametrize(
    ("resolved", "asked", "image"),
    [
        (WEB, "4aeeaaaaaaaa", f"sha256:{IMAGE_ID}"),
        (WEB, IMAGE_ID, f"sha256:{IMAGE_ID}"),
        (WEB, f"sha256:{IMAGE_ID}", f"sha256:{IMAGE_ID}"),
        ("localhost/4aee:latest", "4aee", "localhost/4aee:latest"),
        ("localhost/web:1", "web:1", "localhost/web:1"),
    ],
    ids=["short-id", "id", "whole-id", "a-name-like-an-id", "short-name"],
)
async def test_what_was_asked_for(storage: Storage, resolved: str, asked: str, image: str) -> None:
    assert (await storage.says(resolved, asked)).image == image


@pytest.mark.parametrize(
    ("names", "history", "is_known"),
    [
        (["localhost/made:1"], ["localhost/made:1"], False),
        (None, None, False),
        (["localhost/mine:1"], [WEB], True),
        (None, [WEB], True),
    ],
    ids=["made-here", "never-named", "named-anew", "untagged"],
)
async def test_an_image_that_never_had_a_registrys_name_has_no_registry_digest(
    storage: Storage, names: list[str] | None, history: list[str] | None, *, is_known: bool
) -> None:
    storage.image |= {"names": names, "names-history": history}
    facts = await storage.says("localhost/made:1")
    assert (facts.image_digest is not None) == is_known
    reason = facts.absent.get("container_image_digest")
    assert reason == (None if is_known else Missing.NO_REGISTRY_DIGEST)


async def test_a_manifest_that_is_not_there_costs_only_the_kind(storage: Storage) -> None:
    gone = "sha256:" + "3" * 64
    facts = await storage.says(f"r.example/web@{gone}")
    assert (facts.image_digest, facts.digest_kind) == (gone, None)
    assert facts.absent["image.digest_kind"] is Missing.NOT_RECORDED
