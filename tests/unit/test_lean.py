"""What a watch loads, and what it does not: resident memory is half of it."""

from __future__ import annotations

import subprocess
import sys

LOADED = """
import sys
from ctrwatch.commands.lean import leave_out_openssl
leave_out_openssl()
import asyncio, hashlib
import ctrwatch.commands.events, ctrwatch.evidence.api.client, ctrwatch.evidence.api.cri
hashlib.blake2b(b"", digest_size=16), hashlib.sha256(b"")
asyncio.run(asyncio.sleep(0))
print(*(name for name, module in sys.modules.items() if module is not None))
"""

OF_THE_TABLE = """
import sys
from ctrwatch.cli import main
import ctrwatch.commands.events, ctrwatch.commands.ps, ctrwatch.commands.top
print(*(name for name in sys.modules if name.partition(".")[0] in ("textual", "rich")))
"""


def test_only_a_table_on_a_terminal_loads_what_draws_it() -> None:
    """`top --json` measures text, and no more."""
    others = OF_THE_TABLE.replace(", ctrwatch.commands.top", "")
    loaded = [
        set(
            subprocess.run(
                (sys.executable, "-c", each), capture_output=True, check=True
            ).stdout.split()
        )
        for each in (others, OF_THE_TABLE)
    ]

    assert loaded[0] == set()
    assert b"rich.cells" in loaded[1]
    assert not {name for name in loaded[1] if name.startswith(b"textual")}


def test_a_watch_works_without_openssl_and_sqlite() -> None:
    done = subprocess.run(
        (sys.executable, "-c", LOADED), capture_output=True, text=True, check=True
    )

    assert done.stderr == ""
    assert "ctrwatch.evidence.api.client" in done.stdout.split()
    assert not {"ssl", "_ssl", "_hashlib", "sqlite3", "tempfile"} & set(done.stdout.split())
