"""The machine, and the processor time and memory of processes, as the kernel counts them."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from statistics import median
from tempfile import NamedTemporaryFile
from typing import NamedTuple

from budget_sync.database.connection import library_version

PROJECT = Path(__file__).resolve().parent.parent

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Memory(NamedTuple):
    """The sum over several processes.

    Resident memory (RSS) counts a shared page in each process, proportional memory (PSS) once in
    total.
    """

    resident_mb: float
    proportional_mb: float


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            # After the name, which may contain spaces and parentheses: state, parent.
            parent = int(
                (folder / "stat")
                .read_text(encoding="utf-8", errors="replace")
                .rpartition(")")[2]
                .split()[1]
            )
        except (OSError, IndexError):
            continue  # it has ended
        children.setdefault(parent, []).append(int(folder.name))
    found = [pid]
    for member in found:
        found.extend(children.get(member, []))
    return found


def cpu_s(pid: int) -> float:
    """Processor seconds used by a process and its descendants, including those that have ended."""
    ticks = 0
    for member in family(pid):
        try:
            fields = (
                Path(f"/proc/{member}/stat")
                .read_text(encoding="utf-8", errors="replace")
                .rpartition(")")[2]
                .split()
            )
        except OSError:
            continue
        ticks += sum(map(int, fields[11:15]))
    return ticks / _TICKS_PER_S


def memory(pid: int) -> Memory:
    """The memory of a process and its descendants."""
    totals_kb = {"Rss:": 0, "Pss:": 0}
    for member in family(pid):
        try:
            lines = Path(f"/proc/{member}/smaps_rollup").read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        for line in lines:
            name, *rest = line.split()
            if name in totals_kb:
                totals_kb[name] += int(rest[0])
    return Memory(totals_kb["Rss:"] / 1024, totals_kb["Pss:"] / 1024)


def slow_fsync_library(folder: Path) -> Path:
    """Compile the preload library that slows each fsync down by 3 ms, into that folder."""
    library = folder / "slow_fsync.so"
    source = Path(__file__).with_name("slow_fsync.c")
    subprocess.run(
        ["gcc", "-O2", "-Wall", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True
    )
    library.chmod(0o755)
    return library


def require_loaded(pid: int, library: Path) -> None:
    """Raise RuntimeError unless the process has loaded that preload library.

    The loader only warns if it cannot load one.
    """
    if str(library) not in Path(f"/proc/{pid}/maps").read_text(encoding="utf-8", errors="replace"):
        raise RuntimeError(f"process {pid} runs without {library}")


def fsync_ms(folder: Path, preload: Path | None = None) -> float:
    """The median time to write and sync 4 KB in that folder, measured in a new process."""
    environment = os.environ | ({"LD_PRELOAD": str(preload)} if preload else {})
    command = [sys.executable, "-m", "bench.machine", str(folder)]
    return float(
        subprocess.run(
            command, cwd=PROJECT, env=environment, check=True, capture_output=True, text=True
        ).stdout
    )


def _measure_fsync(folder: Path) -> float:
    times_s = []
    with NamedTemporaryFile(dir=folder) as file:
        for _ in range(100):
            os.pwrite(file.fileno(), os.urandom(4096), 0)
            began_s = time.perf_counter()
            os.fdatasync(file.fileno())
            times_s.append(time.perf_counter() - began_s)
    return median(times_s) * 1000


def facts(folder: Path, slow: Path) -> list[str]:
    """The machine and the versions, as lines."""
    meminfo = dict(
        line.split(":", 1)
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    )
    cpuinfo = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    model = next(
        (line.partition(":")[2].strip() for line in cpuinfo if line.startswith("model name")),
        platform.machine(),
    )
    plain_ms = fsync_ms(folder)
    doubt = (
        " (faster than any disk: the folder is in memory, or the disk does not sync)"
        if plain_ms < 0.02
        else ""
    )
    memory_gb = int(meminfo["MemTotal"].split()[0]) / 1024 / 1024
    packages = ("Flask", "peewee", "gunicorn", "pydantic")
    machine = (
        f"Machine: {len(os.sched_getaffinity(0))} cores ({model}), {memory_gb:.1f} GB, "
        f"Linux {platform.release()}, load average {os.getloadavg()[0]:.1f} before the run"
    )
    versions = (
        f"Versions: Python {platform.python_version()}, "
        f"SQLite {'.'.join(map(str, library_version()))}, "
        f"{', '.join(f'{package} {version(package)}' for package in packages)}, {_wrk_version()}"
    )
    fsync = (
        f"fsync of 4 KB in {folder}: {plain_ms:.2f} ms{doubt}; "
        f"slowed down: {fsync_ms(folder, slow):.2f} ms"
    )
    return [machine, fsync, versions]


def _wrk_version() -> str:
    # wrk -v exits with status 1.
    output = subprocess.run(["wrk", "-v"], check=False, capture_output=True, text=True)
    return " ".join((output.stdout + output.stderr).split()[:2])


if __name__ == "__main__":
    sys.stdout.write(f"{_measure_fsync(Path(sys.argv[1]))}\n")
