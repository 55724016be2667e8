"""What the standard library would load and nothing here needs."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from typing import Final

__all__ = ("leave_out_openssl",)

# What hashlib has without OpenSSL; some distributions build Python without them.
_OWN_HASHES: Final = ("_md5", "_sha1", "_sha256", "_sha512", "_sha3", "_blake2")


def leave_out_openssl() -> None:
    """
    Call it before asyncio is imported: that loads OpenSSL where it finds it, 5 MB resident.

    Daemons are asked on unix sockets, without TLS. asyncio, hashlib and grpclib are made
    to do without (they try the import); what is loaded already stays.
    """
    left_out = ["ssl"]
    if all(find_spec(name) for name in _OWN_HASHES):
        left_out.append("_hashlib")
    for name in left_out:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # None: as if it were missing
