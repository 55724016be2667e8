"""
Which image a container was made from, held against what a real registry serves.

`container_image` is what the user asked for; the digest is what the registry served under
that name, with its kind; `image.id` is the same wherever that image runs.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from functools import cached_property
from typing import Any, NamedTuple, Protocol

import pytest

from scripts.images import ARCHITECTURE, DOCKER, OCI, Index, Manifest, make_index, make_manifest
from tests.live.bed import Bed
from tests.live.daemons import command
from tests.live.registry import Registry, Served
from tests.live.watching import Event, Watching

ANOTHER = {"amd64": "arm64", "arm64": "amd64"}[ARCHITECTURE]
PROGRAM = ("sleep", "600")


class Told(NamedTuple):
    """What an event says of the image."""

    image: str
    digest: str
    kind: str
    id: str


class Engine(Protocol):
    """What users of all runtimes do with images, in each one's own words."""

    @property
    def home(self) -> str:
        """Of names that are given here."""
        ...

    def pull(self, name: str) -> None: ...
    def tag(self, name: str, new: str) -> None: ...
    def run(self, image: str) -> str: ...
    def restart(self, container: str) -> None: ...


class DockerEngine:
    home = "docker.io/library"

    def __init__(self, bed: Bed) -> None:
        self.docker = bed.docker
        self.pull, self.restart = bed.docker.pull, bed.docker.restart

    def tag(self, name: str, new: str) -> None:
        self.docker.cli("tag", name, new)

    def run(self, image: str) -> str:
        return self.docker.run(*PROGRAM, image=image)


class PodmanEngine:
    home = "localhost"

    def __init__(self, bed: Bed) -> None:
        self.podman = bed.podman
        self.pull = bed.podman.pull

    def tag(self, name: str, new: str) -> None:
        self.podman.cli("tag", name, new)

    def run(self, image: str) -> str:
        return self.podman.run(*PROGRAM, image=image)

    def restart(self, container: str) -> None:
        self.podman.cli("restart", "--time", "0", container)


class CtrEngine:
    home = "docker.io/library"

    def __init__(self, bed: Bed) -> None:
        self.ctr = bed.ctr
        self._numbers = itertools.count()

    def pull(self, name: str) -> None:
        self.ctr.cli("default", "image", "pull", "--plain-http", name)

    def tag(self, name: str, new: str) -> None:
        self.ctr.cli("default", "image", "tag", name, f"{self.home}/{new}")

    def run(self, image: str) -> str:
        return self.ctr.run(f"digest-{next(self._numbers)}", *PROGRAM, image=image)

    def restart(self, container: str) -> None:
        self.ctr.cli("default", "task", "rm", "--force", container)
        self.ctr.cli("default", "task", "start", "--detach", "--null-io", container)


class CriEngine:
    home = "docker.io/library"

    def __init__(self, bed: Bed) -> None:
        self.cri = bed.cri
        self.pull = bed.cri.pull
        self._pod = bed.cri.pod("digests")
        self._numbers = itertools.count()

    def tag(self, name: str, new: str) -> None:
        command("ctr", "--address", self.cri.socket, "--namespace", "k8s.io",
                "image", "tag", name, f"{self.home}/{new}")  # fmt: skip

    def run(self, image: str) -> str:
        return self.cri.run(self._pod, f"digest-{next(self._numbers)}", *PROGRAM, image=image)

    def restart(self, container: str) -> None:
        raise NotImplementedError("the kubelet makes another container")


class Engines:
    """Each is started when a test first asks for it."""

    def __init__(self, bed: Bed) -> None:
        self._bed = bed

    @cached_property
    def docker(self) -> DockerEngine:
        return DockerEngine(self._bed)

    @cached_property
    def podman(self) -> PodmanEngine:
        return PodmanEngine(self._bed)

    @cached_property
    def ctr(self) -> CtrEngine:
        return CtrEngine(self._bed)

    @cached_property
    def cri(self) -> CriEngine:
        return CriEngine(self._bed)


class Shop:
    """Images of its own for each test, in a repository of its own."""

    def __init__(self, bed: Bed) -> None:
        self.registry: Registry = bed.registry
        self._rootfs = bed.rootfs
        self._numbers = itertools.count()

    def name(self) -> str:
        return f"shop/web-{next(self._numbers)}:1"

    def manifest(self, **options: Any) -> Manifest:
        labels = {"number": str(next(self._numbers))}
        return make_manifest(self._rootfs, Cmd=["sh"], Labels=labels, **options)

    def index(self, mine: Manifest, types: Any = OCI) -> Index:
        another = self.manifest(types=types, architecture=ANOTHER)
        return make_index(another, mine, types=types)

    def push(self, name: str, image: Manifest | Index) -> str:
        """Returns what to pull."""
        self.registry.push(name, image)
        return self.registry.name(name)


@pytest.fixture(scope="module")
def watching(bed: Bed) -> Iterator[Watching]:
    with Watching() as watching:
        yield watching


@pytest.fixture(scope="module")
def shop(bed: Bed) -> Shop:
    return Shop(bed)


@pytest.fixture(scope="module")
def engines(bed: Bed) -> Engines:
    return Engines(bed)


@pytest.fixture(params=["docker", "podman", "ctr", "cri"])
def engine(request: pytest.FixtureRequest, engines: Engines) -> Engine:
    chosen: Engine = getattr(engines, request.param)
    return chosen


def told(watching: Watching, container: str, nth: int = 1) -> Told:
    """By the time of the first instruction; the create had it all but, on a busy host, the kind."""
    created, started = (
        of(watching.event(name, container, nth=nth))
        for name in ("container_create", "container_start")
    )
    assert (
        watching.event("container_create", container, nth=nth)["evidence"]["status"] == "complete"
    )
    assert created._replace(kind="") == started._replace(kind="")
    return started


def of(event: Event) -> Told:
    image = event["image"]
    return Told(
        event["container_image"], event["container_image_digest"], image["digest_kind"], image["id"]
    )


def missing(watching: Watching, container: str, nth: int = 1) -> dict[str, str]:
    event = watching.event("container_create", container, nth=nth)
    reasons: dict[str, str] = event["evidence"]["missing"]
    return {field: why for field, why in reasons.items() if "image" in field}


def as_served(name: str, served: Served, mine: Manifest) -> Told:
    return Told(name, served.digest, served.kind, mine.config_digest)


def test_a_tag_and_the_digests_of_an_index_and_of_its_manifest(
    watching: Watching, shop: Shop, engine: Engine
) -> None:
    """All three are pulled before the first is run: the runtime has three names of one image."""
    plain = shop.name()
    mine = shop.manifest()
    tag = shop.push(plain, shop.index(mine))
    served = shop.registry.served(plain)
    assert served.kind == "index"
    repository = tag.rpartition(":")[0]
    index, manifest = f"{repository}@{served.digest}", f"{repository}@{mine.digest}"
    for name in (manifest, tag, index):
        engine.pull(name)

    assert told(watching, engine.run(tag)) == as_served(tag, served, mine)
    assert told(watching, engine.run(index)) == as_served(index, served, mine)
    assert told(watching, engine.run(manifest)) == as_served(
        manifest, Served(mine.digest, "manifest"), mine
    )


def test_a_tag_of_a_manifest_alone(watching: Watching, shop: Shop, engine: Engine) -> None:
    mine = shop.manifest(types=DOCKER)
    plain = shop.name()
    tag = shop.push(plain, mine)
    served = shop.registry.served(plain)
    assert served.kind == "manifest"
    engine.pull(tag)

    assert told(watching, engine.run(tag)) == as_served(tag, served, mine)


@pytest.mark.parametrize("engine", ["docker", "podman", "cri"], indirect=True)
def test_a_digest_decides_and_the_tag_before_it_does_not(
    watching: Watching, shop: Shop, engine: Engine
) -> None:
    plain = shop.name()
    mine = shop.manifest()
    tag = shop.push(plain, shop.index(mine))
    served = shop.registry.served(plain)
    shop.push(plain, shop.manifest())
    asked = f"{tag}@{served.digest}"
    engine.pull(asked)
    says = told(watching, engine.run(asked))

    repository = tag.rpartition(":")[0]
    assert says[1:] == as_served(tag, served, mine)[1:]
    assert says.image in (asked, f"{repository}@{served.digest}")


def test_a_tag_given_here_keeps_the_registry_digest(
    watching: Watching, shop: Shop, engine: Engine
) -> None:
    plain = shop.name()
    mine = shop.manifest()
    tag = shop.push(plain, shop.index(mine))
    engine.pull(tag)
    new = plain.rpartition("/")[2]
    engine.tag(tag, new)
    whole = f"{engine.home}/{new}"

    asked = new if engine.home == "localhost" else whole
    assert told(watching, engine.run(asked)) == as_served(whole, shop.registry.served(plain), mine)
    assert told(watching, engine.run(tag)).image == tag


def test_an_image_in_two_repositories_is_told_by_the_name_that_was_asked_for(
    watching: Watching, shop: Shop, engine: Engine
) -> None:
    mine = shop.manifest()
    names = sorted((shop.name(), shop.name()))
    tags = [shop.push(name, mine) for name in names]
    for tag in tags:
        engine.pull(tag)

    for name, tag in zip(names, tags, strict=True):
        served = shop.registry.served(name)
        assert told(watching, engine.run(tag)) == as_served(tag, served, mine)


@pytest.mark.parametrize("engine", ["docker", "ctr", "cri"], indirect=True)
def test_each_repository_has_a_digest_of_its_own(
    watching: Watching, shop: Shop, engine: Engine
) -> None:
    """One serves the index, the other its manifest. Podman does not keep which is whose."""
    mine = shop.manifest(types=DOCKER)
    names = [shop.name(), shop.name()]
    tags = [shop.push(names[0], shop.index(mine, DOCKER)), shop.push(names[1], mine)]
    for tag in tags:
        engine.pull(tag)

    for name, tag in zip(names, tags, strict=True):
        served = shop.registry.served(name)
        assert told(watching, engine.run(tag)) == as_served(tag, served, mine)


def test_a_tag_that_has_moved_does_not_speak_for_the_old_container(
    watching: Watching, shop: Shop, engine: Engine
) -> None:
    plain = shop.name()
    old, new = shop.manifest(), shop.manifest()
    tag = shop.push(plain, old)
    was = shop.registry.served(plain)
    engine.pull(tag)
    container = engine.run(tag)
    before = told(watching, container)
    shop.push(plain, new)
    engine.pull(tag)

    assert before == as_served(tag, was, old)
    assert told(watching, engine.run(tag)) == as_served(tag, shop.registry.served(plain), new)
    if isinstance(engine, CriEngine):  # it is not restarted; the kubelet makes another by id
        again = told(watching, engine.run(old.config_digest))
        assert again[1:] == before[1:]
        return
    engine.restart(container)
    again = told(watching, container, nth=2)
    if isinstance(engine, CtrEngine):  # containerd has kept nothing of the old one but its name
        assert again == Told(tag, "", "", "")
        assert missing(watching, container, nth=2) == {
            "container_image_digest": "not_recorded", "image.id": "not_recorded"
        }  # fmt: skip
    else:
        assert again == before


def test_an_image_without_a_name(watching: Watching, shop: Shop, engines: Engines) -> None:
    """Docker forgets the registry digest with the last name, Podman does not, ctr forgets all."""
    docker, podman, ctr = engines.docker, engines.podman, engines.ctr
    plain = shop.name()
    mine = shop.manifest()
    tag = shop.push(plain, mine)
    served = shop.registry.served(plain)
    all_three: list[Engine] = [docker, podman, ctr]
    for engine in all_three:
        engine.pull(tag)
    containers = [engine.run(tag) for engine in all_three]
    for container in containers:
        assert told(watching, container) == as_served(tag, served, mine)
    docker.docker.cli("rmi", "--force", tag)
    podman.podman.cli("untag", mine.config_digest.removeprefix("sha256:"), tag)
    ctr.ctr.cli("default", "image", "rm", tag)
    for engine, container in zip(all_three, containers, strict=True):
        engine.restart(container)

    by_docker, by_podman, by_ctr = (told(watching, container, nth=2) for container in containers)
    assert by_docker == Told(tag, "", "", mine.config_digest)
    assert missing(watching, containers[0], nth=2) == {
        "container_image_digest": "no_registry_digest"
    }
    assert by_podman == as_served(tag, served, mine)
    by_id = podman.run(mine.config_digest)
    assert told(watching, by_id) == as_served(mine.config_digest, served, mine)
    assert by_ctr == Told(tag, "", "", "")


def test_an_image_of_this_host_has_no_registry_digest(
    watching: Watching, bed: Bed, engines: Engines
) -> None:
    """Loaded, imported or committed: it has a manifest, but none that a registry ever served."""
    nothing = {"container_image_digest": "no_registry_digest"}
    loaded = bed.image
    importers: list[Engine] = [engines.docker, engines.ctr, engines.cri]
    for engine in importers:
        container = engine.run(loaded.name)
        assert told(watching, container) == Told(loaded.name, "", "", loaded.config_digest)
        assert missing(watching, container) == nothing

    bed.podman.cli("commit", bed.podman.run("true"), "made-here:1")
    container = bed.podman.run(*PROGRAM, image="made-here:1")
    made = "sha256:" + bed.podman.inspect_image("made-here:1")["Id"]
    assert told(watching, container) == Told("localhost/made-here:1", "", "", made)
    assert missing(watching, container) == nothing


@pytest.mark.parametrize("length", [64, 12], ids=["id", "short-id"])
@pytest.mark.parametrize("engine", ["docker", "podman"], indirect=True)
def test_who_asks_by_id_is_told_the_id(
    watching: Watching, shop: Shop, engine: Engine, length: int
) -> None:
    plain = shop.name()
    mine = shop.manifest()
    engine.pull(shop.push(plain, mine))
    bare = mine.config_digest.removeprefix("sha256:")
    served = shop.registry.served(plain)

    assert told(watching, engine.run(bare[:length])) == as_served(mine.config_digest, served, mine)


def test_the_same_image_is_recognised_wherever_it_runs(
    watching: Watching, shop: Shop, engines: Engines
) -> None:
    plain = shop.name()
    mine = shop.manifest()
    tag = shop.push(plain, shop.index(mine))
    said = set()
    everywhere: list[Engine] = [engines.ctr, engines.docker, engines.podman, engines.cri]
    for engine in everywhere:
        engine.pull(tag)
        said.add(told(watching, engine.run(tag)))

    assert said == {as_served(tag, shop.registry.served(plain), mine)}
