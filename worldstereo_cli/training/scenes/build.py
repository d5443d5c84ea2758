"""Compile the scene program: a shared library for the CPU, a cubin for NVIDIA GPUs.

Results are cached under a name that holds a digest of the source and the flags, so nothing is
compiled twice. The GPU build asks nvcc when it is on the path, else NVRTC through CuPy; a cubin
made on one machine can travel to another inside the assets folder.
"""

import hashlib
import os
import platform
import shutil
import subprocess
from pathlib import Path

from worldstereo_cli.errors import BackendError

SOURCE_DIR = Path(__file__).parent / "source"
# -ffast-math would let the compiler forget that the sky is infinitely far.
CPU_FLAGS = ("-O2", "-std=c++14", "-ffast-math", "-fno-finite-math-only", "-shared", "-fPIC")
GPU_FLAGS = ("-use_fast_math",)


def source_digest(flags: tuple[str, ...]) -> str:
    """Digest of every source file and the flags, 12 hexadecimal digits."""
    digest = hashlib.sha256(" ".join(flags).encode())
    for path in sorted(SOURCE_DIR.iterdir()):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def default_cache_dir() -> Path:
    """Folder for compiled programs: `$XDG_CACHE_HOME/worldstereo` or `~/.cache/worldstereo`."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "worldstereo"


def compile_cpu(cache_dir: Path | None = None) -> Path:
    """Compile the CPU library, or find it in the cache.

    Args:
        cache_dir: Where compiled programs live; `default_cache_dir()` when absent.

    Returns:
        Path of a shared library.

    Raises:
        BackendError: No C++ compiler is on the path, or it failed.
    """
    folder = cache_dir or default_cache_dir()
    target = folder / f"scenes_cpu_{platform.machine()}_{source_digest(CPU_FLAGS)}.so"
    if target.exists():
        return target
    compiler = next((found for name in ("clang++", "g++", "c++") if (found := shutil.which(name))), None)
    if compiler is None:
        raise BackendError(
            "Rendering scenes on a CPU needs a C++ compiler.", remedy="Install g++ or clang++."
        )
    _run_compiler([compiler, *CPU_FLAGS], SOURCE_DIR / "cpu.cpp", target)
    return target


def gpu_cubin_name(compute_capability: str) -> str:
    """File name of the cubin for a compute capability such as "90"."""
    return f"scenes_sm{compute_capability}_{source_digest(GPU_FLAGS)}.cubin"


def compile_gpu(compute_capability: str, folder: Path | None = None) -> Path:
    """Compile the GPU program, or find it in a folder; no GPU is needed when nvcc is on the path.

    Args:
        compute_capability: Two or three digits, such as "90" for an H100 or H200.
        folder: Where compiled programs live; `default_cache_dir()` when absent.

    Returns:
        Path of a cubin.

    Raises:
        BackendError: Neither nvcc nor CuPy's NVRTC is there, or the compiler failed.
    """
    target = (folder or default_cache_dir()) / gpu_cubin_name(compute_capability)
    if target.exists():
        return target
    nvcc = shutil.which("nvcc")
    if nvcc is None:
        _compile_with_nvrtc(compute_capability, target)
    else:
        command = [nvcc, f"-arch=sm_{compute_capability}", "--cubin", "-O3", *GPU_FLAGS]
        _run_compiler(command, SOURCE_DIR / "gpu.cu", target)
    return target


def _run_compiler(command: list[str], source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = target.with_name(f"{target.stem}.{os.getpid()}{target.suffix}")
    done = subprocess.run([*command, "-o", str(draft), str(source)], capture_output=True, text=True)
    if done.returncode != 0:
        draft.unlink(missing_ok=True)
        raise BackendError(
            f"{command[0]} could not compile the scene program: {done.stderr.strip()[-800:]}",
            remedy="Use a compiler with C++14 (g++ 7, CUDA 12 or newer).",
        )
    draft.replace(target)


def _compile_with_nvrtc(compute_capability: str, target: Path) -> None:
    try:
        from cupy.cuda import compiler
    except ImportError as error:
        raise BackendError(
            "Rendering scenes on a GPU needs CuPy.",
            remedy="pip install cupy-cuda12x (or cupy-cuda13x, as nvidia-smi says)",
        ) from error
    options = ("-std=c++14", f"-I{SOURCE_DIR}", *GPU_FLAGS)
    code = (SOURCE_DIR / "gpu.cu").read_text()
    try:
        image = compiler.compile_using_nvrtc(code, options, compute_capability, "gpu.cu")[0]
    except compiler.CompileException as error:
        raise BackendError(
            f"NVRTC could not compile the scene program: {str(error)[-800:]}", remedy="Update CuPy."
        ) from error
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(image)
