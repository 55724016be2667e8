import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

# The first question would wait for them, and has a deadline.
from ctrwatch.evidence.api import client as _client, cri as _cri  # noqa: F401
from ctrwatch.evidence.files import Readers


@pytest.fixture
def readers() -> Iterator[Readers]:
    made = Readers()
    yield made
    made.close()


@pytest.fixture
def socket() -> Iterator[Path]:
    """Where a daemon may listen; a socket's path ends at 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="ctrwatch-") as directory:
        yield Path(directory) / "daemon.sock"
