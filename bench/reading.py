"""(f) Reading sheets: `apply` and `detect` on CSV files of 22,000 lines, and an Excel file.

The limits are for a budget of a city: 15 columns, and 60 departments with many lines each. The two
other files have short lines, and one line for each department.

Each figure is measured in a new process, which runs this module as `python -m bench.reading STEP
FILE`. Times are processor time.
"""

from __future__ import annotations

import csv
import io
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

from bench.machine import PROJECT
from bench.places import BenchError

LINES = 22_000
XLSX_ROWS, XLSX_COLUMNS = 10_000, 10
DEPARTMENTS = 60
_STEPS = (
    *("csv", "apply", "detect", "csv-narrow", "apply-narrow", "csv-single", "apply-single"),
    *("calamine", "xlsx"),
)
_KB_PER_MB = 1024
_READING = """{"version": 1, "file": {"delimiter": ","}, "department": {"column": "Department"},
    "period": {"column": "Fiscal Year"}, "amount": {"columns": ["Adopted Budget"]}, "sum": true}"""


class Figures(NamedTuple):
    """Processor seconds, medians of the rounds, and the growth of the largest memory in MB.

    `narrow_times` and `single_times` are what `apply` takes for the two other files, in multiples
    of `csv.reader` alone.
    """

    csv_s: float
    apply_s: float
    detect_s: float
    narrow_times: float
    single_times: float
    calamine_s: float
    calamine_mb: float
    xlsx_s: float
    xlsx_mb: float


def measure(folder: Path, rounds: int) -> Figures:
    """Measure each step `rounds` times, in turn."""
    files = {
        "": folder / "lines.csv",
        "narrow": folder / "narrow.csv",
        "single": folder / "single.csv",
        "xlsx": folder / "cells.xlsx",
    }
    write_csv(files[""], DEPARTMENTS, is_wide=True)
    write_csv(files["narrow"], DEPARTMENTS)
    write_csv(files["single"], LINES)
    write_xlsx(files["xlsx"])
    found: dict[str, list[tuple[float, float]]] = {step: [] for step in _STEPS}
    for _ in range(rounds):
        for step in _STEPS:
            name, _, kind = step.partition("-")
            kind = "xlsx" if step in ("calamine", "xlsx") else kind
            found[step].append(_step(name, files[kind]))
    times = {step: median(time for time, _ in pairs) for step, pairs in found.items()}
    memory = {step: median(size for _, size in pairs) for step, pairs in found.items()}
    return Figures(
        times["csv"],
        times["apply"],
        times["detect"],
        times["apply-narrow"] / times["csv-narrow"],
        times["apply-single"] / times["csv-single"],
        times["calamine"],
        memory["calamine"],
        times["xlsx"],
        memory["xlsx"],
    )


def write_csv(path: Path, departments: int, *, is_wide: bool = False) -> None:
    """Write 22,000 lines of a plan, with codes beside them; nine more columns if `is_wide`."""
    rng = random.Random(1)  # noqa: S311  # no secret
    more = [f"Description {number}" for number in range(9 if is_wide else 0)]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            ("Fiscal Year", "Fund", "Department", "Account Code", "Class", *more, "Adopted Budget")
        )
        writer.writerows(
            (
                f"FY{2024 + number // departments % 3}",
                f"{100 + rng.randrange(20)}",
                f"Department of Subject {number % departments}",
                f"{50_000 + number}",
                rng.choice(("Personnel", "Supplies", "Services", "Capital")),
                *(f"Text of the {place} {rng.randrange(300)}" for place in more),
                f"{rng.randrange(1000, 10**8) / 100:.2f}",
            )
            for number in range(LINES)
        )


def write_xlsx(path: Path) -> None:
    """Write an Excel file of 100,000 cells, as pandas does."""
    import xlsxwriter  # noqa: PLC0415

    rng = random.Random(1)  # noqa: S311  # no secret
    with xlsxwriter.Workbook(path) as book:
        money = book.add_format({"num_format": "#,##0.00"})
        sheet = book.add_worksheet("Budgets")
        names = ("Department", "Fiscal Period", "Account", "Class", "Budgeted Amount")
        notes = [f"Note {number}" for number in range(XLSX_COLUMNS - len(names))]
        sheet.write_row(0, 0, (*names, *notes))
        for row in range(1, XLSX_ROWS):
            texts = (f"Team {row // 4}", f"Q{row % 4 + 1} 2026", f"A-{row}", "Supplies")
            sheet.write_row(row, 0, texts)
            for column in range(len(texts), XLSX_COLUMNS):
                sheet.write_number(row, column, rng.randrange(10**7) / 100, money)


def _step(name: str, file: Path) -> tuple[float, float]:
    command = [sys.executable, "-m", "bench.reading", name, str(file)]
    done = subprocess.run(command, cwd=PROJECT, check=False, capture_output=True, text=True)
    if done.returncode:
        raise BenchError(f"bench.reading {name}: {done.stderr.strip()}")
    seconds, size = done.stdout.split()
    return float(seconds), float(size)


# The rest runs in the new process.


def _work(name: str, file: Path) -> Callable[[], object]:
    """The work to measure; everything else is imported and prepared."""
    if name == "csv":
        text = file.read_text(encoding="utf-8")
        return lambda: list(csv.reader(io.StringIO(text, newline="")))
    if name == "calamine":
        import python_calamine  # noqa: PLC0415

        return lambda: (
            python_calamine.CalamineWorkbook.from_path(file).get_sheet_by_index(0).to_python()
        )
    from budget_sync.domain.periods import FiscalYear  # noqa: PLC0415
    from budget_sync.sync.fetch import read_target  # noqa: PLC0415
    from budget_sync.sync.reading.apply import apply  # noqa: PLC0415
    from budget_sync.sync.reading.detect import detect  # noqa: PLC0415
    from budget_sync.sync.reading.model import Reading  # noqa: PLC0415
    from budget_sync.sync.reading.result import Customer  # noqa: PLC0415
    from budget_sync.sync.source import XLSX, Reach, Target  # noqa: PLC0415
    from budget_sync.sync.standard import standard_reading  # noqa: PLC0415

    customer = Customer("USD", FiscalYear())
    if name == "xlsx":
        import budget_sync.sync.xlsx  # noqa: F401, PLC0415

        target = Target(XLSX, file_path=file.name)
        reading = standard_reading()
        return lambda: apply(reading, read_target(target, Reach(file.parent)).source, customer)
    data = file.read_bytes()
    if name == "detect":
        return lambda: detect(data, customer, file_name=file.name)
    described = Reading.from_text(_READING)
    return lambda: apply(described, data, customer)


def _largest_mb() -> float:
    """The largest memory of this process so far. getrusage would count the parent's too."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / _KB_PER_MB


def main() -> None:
    """Print the processor seconds of a step, and by how many MB the largest memory grew."""
    name, file = sys.argv[1:]
    work = _work(name, Path(file))
    before_mb = _largest_mb()
    began_s = time.process_time()
    result = work()
    used_s = time.process_time() - began_s
    sys.stdout.write(f"{used_s} {_largest_mb() - before_mb}\n")
    del result


if __name__ == "__main__":
    main()
