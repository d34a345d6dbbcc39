"""Machine code from NVRTC, kept on disk from one process to the next.

CuPy's own modules are not used: CuPy compiles every one of them with ``-ftz=true``, and kernels that take subnormal
numbers for zero differ from the other backends.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cupy.cuda import nvrtc

from qbench.kernels.cuda.nvrtc import version
from qbench.kernels.cuda.sources import FILES, OPTIONS, source


@dataclass(frozen=True)
class Code:
    """A compiled kernel. name: as it is called in the binary."""

    name: str
    binary: bytes


def machine_code(kernel: str, capability: int) -> Code:
    """One kernel, one instance of a template, for a compute capability such as 90: from disk, or compiled now."""
    path = folder() / f"{_digest(kernel, capability)}.bin"
    with suppress(OSError, ValueError):
        name, _, binary = path.read_bytes().partition(b"\n")
        return Code(name.decode("ascii"), binary)
    code = compiled(kernel, capability)
    with suppress(OSError):  # a machine without a place for it compiles anew
        _write(path, code.name.encode("ascii") + b"\n" + code.binary)
    return code


def folder() -> Path:
    """Where machine code is kept: ``$XDG_CACHE_HOME/qbench/cuda``, or ``~/.cache/qbench/cuda``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or _home() / ".cache") / "qbench" / "cuda"


def _home() -> Path:
    """The user's, or what no folder can be made in: in a container a user may have none."""
    try:
        return Path.home()
    except RuntimeError:
        return Path(os.devnull)


def compiled(kernel: str, capability: int) -> Code:
    """The same, always compiled."""
    file = FILES[kernel]
    return translated(source(file), f"{file}.cu", kernel, capability)


def translated(text: str, file: str, kernel: str, capability: int) -> Code:
    """A kernel of any source text, with the options of all. file: what error messages call it."""
    version()  # loads it
    program = nvrtc.createProgram(text, file, (), ())
    try:
        nvrtc.addNameExpression(program, kernel)
        try:
            nvrtc.compileProgram(program, (*OPTIONS, f"--gpu-architecture={architecture(capability)}"))
        except nvrtc.NVRTCError as error:
            raise RuntimeError(f"{kernel} does not compile: {nvrtc.getProgramLog(program)[:2000]}") from error
        has_binary = capability in nvrtc.getSupportedArchs()
        binary = nvrtc.getCUBIN(program) if has_binary else nvrtc.getPTX(program)
        return Code(nvrtc.getLoweredName(program, kernel), binary)
    finally:
        nvrtc.destroyProgram(program)


def architecture(capability: int) -> str:
    """The device's own, or where it is newer than NVRTC the newest that its driver can translate."""
    known = nvrtc.getSupportedArchs()
    if capability in known:
        return f"sm_{capability}"
    return f"compute_{max(one for one in known if one <= capability)}"


def _digest(kernel: str, capability: int) -> str:
    text = "\0".join([source(FILES[kernel]), kernel, *OPTIONS, str(capability), str(version())])
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _write(path: Path, content: bytes) -> None:
    """At once, for other processes that look for the same kernel."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
