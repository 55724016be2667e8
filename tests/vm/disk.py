"""What the guest boots from and what it imports, each built once and kept until its recipe changes."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
UV = ROOT / ".build/uv/bin/uv"

BUILD_S = 1200.0  # half a minute from a mirror nearby; the packages are 400 MB
PYTHON_S = 300.0
FREE_BYTES = 3 << 30  # the disk's image takes 1.2 GB
MEMORY_KB = 3 << 20  # the tree is made in memory: 1.5 GB, and dpkg's own

# Without this a parent that is killed leaves its child.
DIES_WITH_US = ("setpriv", "--pdeathsig", "KILL")


class VmError(Exception):
    """The machine can't be had; the message says why, and what to do."""


class NoDebianError(VmError):
    """This host knows no archive to make the guest from."""


class Disk(NamedTuple):
    image: Path
    kernel: Path
    initrd: Path


def disk(cache: Path) -> Disk:
    """Raises `VmError`. Making one needs root: `sudo` is asked for that."""
    directory = cache / f"debian-12-{_digest(HERE / 'disk.sh', HERE / 'guest')}"
    if not directory.is_dir():
        _check_host(cache)
        log = cache / "build.log"
        print(f"building the guest's Debian 12, once; see {log}", file=sys.stderr, flush=True)
        if os.geteuid() != 0:
            print("sudo is asked for one thing: to make the guest's file system", file=sys.stderr)
        with _made(directory, "debian-12-*") as partial, tempfile.TemporaryDirectory() as given:
            sources, apt_conf = Path(given, "sources.list"), Path(given, "apt.conf")
            sources.write_text(_sources())
            apt_conf.write_text(_apt_conf())
            as_root = () if os.geteuid() == 0 else ("sudo",)
            words = (*as_root, HERE / "disk.sh", partial, sources, apt_conf)
            _do("making the guest's disk", words, log, BUILD_S)
    return Disk(directory / "disk.img", directory / "vmlinuz", directory / "initrd.img")


def python_packages(cache: Path) -> Path:
    """A directory with what `requirements.lock` names, for the guest's Python. Raises `VmError`."""
    directory = cache / f"python-3.11-{_digest(ROOT / 'requirements.lock')}"
    if not directory.is_dir():
        with _made(directory, "python-3.11-*") as partial:
            words = (
                UV, "pip", "install", "--quiet", "--target", partial, "--require-hashes",
                "--python-version", "3.11", "--python-platform", "x86_64-manylinux_2_36",
                "--only-binary", ":all:", "--requirement", ROOT / "requirements.lock",
            )  # fmt: skip
            _do("installing the guest's Python packages", words, cache / "python.log", PYTHON_S)
    return directory


@contextmanager
def _made(directory: Path, siblings: str) -> Iterator[Path]:
    """A place to make it in; only what is whole gets its name. What it replaces goes."""
    for old in directory.parent.glob(siblings):
        shutil.rmtree(old)
    partial = directory.with_suffix(".partial")
    partial.mkdir()
    try:
        yield partial
        partial.rename(directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _do(name: str, words: Sequence[str | Path], log: Path, deadline_s: float) -> None:
    with log.open("wb") as output:
        process = subprocess.Popen((*DIES_WITH_US, *words), stdout=output, stderr=output)
        try:
            code = process.wait(deadline_s)
        except subprocess.TimeoutExpired:
            code = -1
        finally:
            if process.poll() is None:
                with suppress(PermissionError):  # sudo's; it hears of Ctrl-C by the terminal
                    process.kill()
                    process.wait()
    if code != 0:
        what = f"exit code {code}" if code >= 0 else f"not done in {deadline_s:.0f} s"
        last = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise VmError(f"{name}: {what}; the whole of what it said is in {log}\n{last}")


def _check_host(cache: Path) -> None:
    for program in ("mmdebstrap", "mkfs.ext4", "unshare", "setpriv"):
        if shutil.which(program, path=_path()) is None:
            raise VmError(f"{program} is not installed: scripts/setup.sh --vm")
    free = shutil.disk_usage(cache).free
    if free < FREE_BYTES:
        raise VmError(
            f"{cache}: {free >> 20} MiB are free, and the guest's disk needs {FREE_BYTES >> 20}; "
            "make room, or name another directory in CTRWATCH_VM"
        )
    available = next(
        int(line.split()[1])
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemAvailable:")
    )
    if available < MEMORY_KB:
        raise VmError(
            f"{available >> 10} MiB of memory are available, and making the guest's file system "
            f"takes {MEMORY_KB >> 10}; end something"
        )


def _sources() -> str:
    """Debian 12, from where this host's own apt has its Debian."""
    words = (
        "apt-get", "indextargets", "--format", "$(REPO_URI)",
        "Created-By: Packages", "Origin: Debian", "Label: Debian",
    )  # fmt: skip
    archives = subprocess.run(words, capture_output=True, text=True, check=False).stdout.split()
    if not archives:
        raise NoDebianError("this host's apt knows no archive of Debian's: is there one in "
                      "/etc/apt/sources.list.d, and did `apt-get update` reach it?")  # fmt: skip
    return f"deb {archives[0]} bookworm main\n"


def _apt_conf() -> str:
    """How this host's apt reaches it: proxies, and what it does not check."""
    dump = subprocess.run(
        ("apt-config", "dump", "Acquire"), capture_output=True, text=True, check=True
    )
    ours = ("Acquire::http", "Acquire::https", "Acquire::Check-")
    return "".join(f"{line}\n" for line in dump.stdout.splitlines() if line.startswith(ours))


def _digest(*tops: Path) -> str:
    digest = hashlib.sha256()
    for top in tops:
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if path.is_file():
                digest.update(f"{path.relative_to(ROOT)}\0".encode() + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def _path() -> str:
    """mkfs is not on everybody's path."""
    return os.environ["PATH"] + ":/usr/sbin:/sbin"
