"""Stress rows that run existing test files. Each test counts as a try."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from collections.abc import Callable
from functools import partial
from pathlib import Path

from support.machine import PROJECT

from stress.outcome import Outcome, Place


def find_test_file(name: str) -> Path:
    """The path of a test file, by its name without `test_`."""
    (path,) = (PROJECT / "tests").rglob(f"test_{name}.py")
    return path


def _stress(files: tuple[str, ...], tries: int, place: Place) -> Outcome:
    outcome = Outcome()
    report = place.folder / "report.xml"
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        f"--junitxml={report}",
        *(str(find_test_file(name)) for name in files),
    ]
    environment = os.environ | {"TEST_ENGINE": place.engine, "REQUIRE_ALL": "1"}
    for number in range(tries):
        done = subprocess.run(
            command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False
        )
        tree = ET.parse(report)  # noqa: S314  # written by our own pytest
        (suite,) = tree.getroot().iter("testsuite")
        # With REQUIRE_ALL, a missing tool is a failure. The rest are tests of another engine.
        skipped = int(suite.attrib["skipped"])
        outcome.tries += int(suite.attrib["tests"]) - skipped
        for case in suite.iter("testcase"):
            broken = [
                child.attrib.get("message", "")
                for child in case
                if child.tag in ("failure", "error")
            ]
            outcome.expect(not broken, f"{case.attrib['name']}: {broken and broken[0][:500]}")
        outcome.expect(
            done.returncode == 0,
            f"the tests end with {done.returncode}: {done.stdout[-500:]}{done.stderr[-500:]}",
        )
        if skipped:
            reasons = sorted({skip.attrib.get("message", "") for skip in suite.iter("skipped")})
            outcome.notes.append(f"{skipped} skipped: {', '.join(reasons)}")
        place.progress(number + 1, tries)
    return outcome


def of(*files: str) -> Callable[[int, Place], Outcome]:
    """A stress function that runs these test files, named without `test_`."""
    return partial(_stress, files)
