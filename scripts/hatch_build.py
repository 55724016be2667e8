"""What must be compiled before ctrwatch runs: BPF objects by clang, gRPC messages by protoc.

Hatchling runs this for wheels and for editable installs; `python scripts/hatch_build.py`
compiles again in place. The results lie beside their sources and are never committed.
"""

import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = Path("src/ctrwatch")
COMPILED = ["*.bpf.o", "*_pb2.py", "*_pb2.pyi"]


class BuildError(Exception):
    """Something did not compile; the message says what, and what to do."""


class CustomBuildHook(BuildHookInterface):  # type: ignore[type-arg]  # hatchling leaves its parameter open
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002  # hatchling's signature
        if self.target_name != "wheel":
            return
        try:
            compile_all(Path(self.root))
        except BuildError as error:
            self.app.abort(str(error))
        # BPF objects are the same for every Linux, so the wheel is as portable as its Python.
        build_data["pure_python"] = True
        build_data["tag"] = "py3-none-any"
        build_data["artifacts"] += COMPILED


def compile_all(root: Path) -> None:
    """Raises `BuildError`."""
    for program in sorted((root / SOURCES).rglob("*.bpf.c")):
        compile_bpf(root, program.relative_to(root))
    protos = sorted((root / SOURCES / "evidence/api").glob("*.proto"))
    if protos:
        compile_protos(root, [proto.relative_to(root / "src") for proto in protos])


def compile_bpf(root: Path, source: Path) -> None:
    clang = shutil.which("clang")
    if clang is None:
        raise BuildError("clang is missing, and the BPF program needs it: apt install clang")
    target = source.with_suffix(".o")
    # Debian keeps <asm/types.h> in a directory of the machine's own, which -target bpf forgets.
    multiarch = Path("/usr/include") / (sysconfig.get_config_var("MULTIARCH") or ".")
    run(root, clang, "-g", "-O2", "-target", "bpf", "-mcpu=v3", "-Wall", "-Werror",
        f"-I{multiarch}", "-fdebug-compilation-dir=.", "-c", source, "-o", target)  # fmt: skip
    # Without DWARF the object is a third of the size; BTF, which CO-RE needs, stays.
    strip = shutil.which("llvm-strip")
    if strip is not None:
        run(root, strip, "-g", target)


def compile_protos(root: Path, protos: list[Path]) -> None:
    """`protos` are relative to src/, so that the modules import each other by their package."""
    run(root, sys.executable, "-m", "grpc_tools.protoc",
        "-Isrc", "--python_out=src", "--pyi_out=src", *protos)  # fmt: skip


def run(root: Path, *command: str | Path) -> None:
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        words = " ".join(map(str, command))
        raise BuildError(f"this command failed: {words}\n{result.stderr or result.stdout}")


if __name__ == "__main__":
    try:
        compile_all(Path(__file__).resolve().parent.parent)
    except BuildError as error:
        sys.exit(f"error: {error}")
