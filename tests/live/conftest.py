import signal
from collections.abc import Iterator

import pytest

from tests.live.bed import Bed
from tests.live.runtimes import Cri, Ctr, Docker, Podman, Runc


@pytest.fixture(scope="session")
def bed() -> Iterator[Bed]:
    # A SIGTERM, too, ends the tests in order, so that the bed is left as it was found.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with Bed() as bed:
        yield bed


@pytest.fixture(scope="session")
def docker(bed: Bed) -> Docker:
    return bed.docker


@pytest.fixture(scope="session")
def ctr(bed: Bed) -> Ctr:
    return bed.ctr


@pytest.fixture(scope="session")
def cri(bed: Bed) -> Cri:
    return bed.cri


@pytest.fixture(scope="session")
def podman(bed: Bed) -> Podman:
    return bed.podman


@pytest.fixture(scope="session")
def runc(bed: Bed) -> Runc:
    return bed.runc
