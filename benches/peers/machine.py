"""What a processor and the programs on it are called."""

import argparse
import importlib.metadata
import os
import pathlib
import subprocess

# Instruction sets that a kernel of ours or of others asks for, by their names in /proc/cpuinfo.
KNOWN = ["avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16", "amx_int8"]
PACKAGES = ["torch", "diffusers", "DeepCache", "openvino", "onnxruntime"]


def processor() -> dict[str, str]:
    """The first one of /proc/cpuinfo."""
    lines = pathlib.Path("/proc/cpuinfo").read_text().split("\n\n")[0].splitlines()
    return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def caches() -> list[str]:
    """Of the first processor, such as `L2 1024K`, with those that share it."""
    found = []
    for cache in sorted(pathlib.Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        read = lambda name, cache=cache: (cache / name).read_text().strip()
        if read("type") != "Instruction":
            found.append(f"L{read('level')} {read('size')}")
    return found


def version(package: str) -> str | None:
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return None


def versions(python: str) -> list[str]:
    """Of the packages in the other sides' Python."""
    code = f"import sys; sys.path.insert(0, {str(pathlib.Path(__file__).parent)!r}); import machine; print(*filter(None, map(machine.version, machine.PACKAGES)), sep=';')"
    return subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout.strip().split(";")


def facts(options: argparse.Namespace) -> dict[str, str]:
    """What the head of a section says."""
    found = processor()
    sets = set(found.get("flags", found.get("Features", "")).split())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=pathlib.Path(__file__).parent)
    return {
        "name": found.get("model name", "a processor without a name"),
        "model": f"family {found.get('cpu family', '?')}, model {found.get('model', '?')}",
        "sets": ", ".join(f"`{name}`" for name in KNOWN if name in sets),
        "absent": ", ".join(f"`{name}`" for name in KNOWN if name not in sets),
        "caches": ", ".join(caches()),
        "threads": str(options.threads),
        "memory": f"{memory:.0f} GiB",
        "versions": ", ".join(versions(options.python)),
        "commit": commit.stdout.strip(),
    }
