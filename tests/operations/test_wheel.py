"""The wheel: its contents, and the `budget-sync` command of a new environment in a new home."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email import message_from_bytes
from importlib.util import find_spec
from pathlib import Path

import pytest
import requests
from api.test_guide import AS_JSON, CHECK, RESERVE
from support.machine import ENGINE, PROJECT, free_port, needs, wait_until

from budget_sync import __version__
from budget_sync.web.openapi import guides

pytestmark = [
    pytest.mark.skipif(ENGINE != "sqlite", reason="not about an engine"),
    pytest.mark.long,
]


@dataclass
class Package:
    """An installed wheel, run from an unrelated folder in a home without files."""

    program: Path
    home: Path
    folder: Path

    def environment(self, **settings: str) -> dict[str, str]:
        """The whole environment of the command."""
        return {"HOME": str(self.home), "PATH": os.defpath} | settings

    def run(self, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
        """Run a command with these settings in its environment."""
        return subprocess.run(
            [self.program, *arguments],
            cwd=self.folder,
            env=self.environment(**settings),
            text=True,
            capture_output=True,
            check=False,
        )

    def succeed(self, *arguments: str, **settings: str) -> str:
        """Run a command; returns its output, and fails the test if there is an error."""
        result = self.run(*arguments, **settings)
        assert (result.returncode, result.stderr) == (0, "")
        return result.stdout

    @contextmanager
    def serve(self) -> Iterator[str]:
        """Run the server; yields its URL."""
        port = free_port()
        line = [str(self.program), "serve", "--port", str(port)]
        log = self.home.with_name("server.log")
        with (
            log.open("w", encoding="utf-8") as output,
            subprocess.Popen(
                line, cwd=self.folder, env=self.environment(), stdout=output, stderr=output
            ) as server,
        ):
            try:
                url = f"http://127.0.0.1:{port}"
                wait_until(lambda: is_ready(url), f"the server is not ready, see {log}", 30)
                yield url
            finally:
                server.send_signal(signal.SIGTERM)
                assert server.wait(timeout=60) == 0, log.read_text(encoding="utf-8")


def is_ready(url: str) -> bool:
    try:
        return requests.get(f"{url}/readyz", timeout=5).ok
    except requests.ConnectionError:
        return False


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution, and the wheel built from it.

    Built without isolation: tests/requirements.txt has the build backend, so the test needs no
    package index.
    """
    for name in ("build", "hatchling", "hatch_requirements_txt"):
        needs(find_spec(name), f"the package {name} (see tests/requirements.txt)")
    folder = tmp_path_factory.mktemp("dist")
    line = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(PROJECT)]
    result = subprocess.run(line, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


@pytest.fixture(scope="module")
def wheel(built: Path) -> Path:
    """The wheel."""
    (path,) = built.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def program(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The `budget-sync` command of a new virtual environment with the wheel installed.

    The environment uses the dependencies of the tests' own environment: installing them again takes
    20 seconds and needs a package index. `test_wheel_requires_the_pinned_versions` compares them.
    """
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    subprocess.run([*pip, "--no-index", "--no-deps", str(wheel)], check=True)
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    ours = sysconfig.get_path("purelib")
    (packages / "dependencies.pth").write_text(f"{ours}\n", encoding="utf-8")
    return folder / "bin" / "budget-sync"


@pytest.fixture
def package(program: Path, tmp_path: Path) -> Package:
    """That command, with a home and a current folder without files."""
    for name in ("home", "elsewhere"):
        (tmp_path / name).mkdir()
    return Package(program, tmp_path / "home", tmp_path / "elsewhere")


def test_wheel_has_program_schema_pages_and_no_tests(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"budget_sync/toplevel/{name}" for name in ("app.py", "cli.py", "schema.sql")} < names
    assert {f"budget_sync/toplevel/docs/{name}.md" for name in guides.PAGES} < names
    tracked = {
        str(path.relative_to(PROJECT))
        for path in (PROJECT / "budget_sync").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert tracked < names
    others = {name.partition("/")[0] for name in names} - {"budget_sync"}
    assert others == {f"budget_sync-{__version__}.dist-info"}


def test_source_distribution_has_no_tests(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        tops = {name.split("/")[1] for name in archive.getnames() if "/" in name}
    assert {"app.py", "budget_sync", "cli.py", "requirements.txt", "schema.sql"} < tops
    assert not tops & {"tests", "bench", ".ci"}


def pins(text: str) -> set[str]:
    """The name==version pairs in a text, with normalized names."""
    found = re.findall(r"^([A-Za-z][\w.-]*)(\[\w+\])?==([^\s;]+)", text, re.MULTILINE)
    return {f"{re.sub(r'[-_.]+', '-', name).lower()}{extra}=={pin}" for name, extra, pin in found}


def test_wheel_requires_the_pinned_versions(wheel: Path) -> None:
    metadata = message_from_bytes(
        zipfile.ZipFile(wheel).read(f"budget_sync-{__version__}.dist-info/METADATA")
    )
    required = pins("\n".join(metadata.get_all("Requires-Dist", [])))
    assert required == pins((PROJECT / "requirements.txt").read_text(encoding="utf-8"))
    assert (metadata["Version"], metadata["Requires-Python"]) == (__version__, ">=3.11")


def test_tests_use_the_build_backend_of_pyproject() -> None:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))
    backend = pins("\n".join(project["build-system"]["requires"]))
    assert backend < pins((PROJECT / "tests" / "requirements.txt").read_text(encoding="utf-8"))


def test_scenario_1_of_the_guide_with_the_installed_wheel(package: Package) -> None:
    data = package.home / ".local" / "share" / "budget-sync"
    assert package.succeed("init-db").startswith(f"Created {data}/budget_sync.db ")
    assert str(data / "demo") in package.succeed("demo")
    name, _, value = (data / "demo" / "orchestrator.header").read_text("utf-8").partition(": ")
    headers = AS_JSON | {name: value.strip()}
    with package.serve() as url:
        check = requests.post(
            f"{url}/api/budget/check", data=CHECK, headers=headers, timeout=30
        ).json()
        assert (check["available"], check["canAutoApprove"]) == (True, True)
        assert check["budget"]["available"] == 95000
        reserve = requests.post(
            f"{url}/api/budget/reserve", data=RESERVE, headers=headers, timeout=30
        ).json()
        assert (reserve["amountReserved"], reserve["newAvailable"]) == (5000, 90000)
        page = requests.get(url, timeout=30)
        assert page.ok
        (style,) = re.findall(r'"(/[^"]*console\.css[^"]*)"', page.text)
        assert requests.get(f"{url}{style}", timeout=30).ok
        assert "The life of a request" in requests.get(f"{url}/docs/integrate", timeout=30).text
    assert package.succeed("verify").startswith("Verified: 4 budgets, 2 reservations, ")
    doctor = package.run("doctor")
    assert (doctor.returncode, doctor.stderr) == (0, "")
    assert "`budget-sync backup FOLDER`" in doctor.stdout
    assert "`flask" not in doctor.stdout
    assert list(package.folder.iterdir()) == []


def test_installed_command_names_itself_in_errors(package: Package) -> None:
    result = package.run("list-users")
    assert (result.returncode, result.stdout) == (1, "")
    assert "`budget-sync init-db`" in result.stderr
    assert "`flask" not in result.stderr
    assert package.succeed("--version") == f"budget-sync, version {__version__}\n"


def test_xdg_data_home_moves_the_instance_folder(package: Package, tmp_path: Path) -> None:
    package.succeed("init-db", XDG_DATA_HOME=str(tmp_path / "data"))
    assert (tmp_path / "data" / "budget-sync" / "budget_sync.db").exists()
    assert list(package.home.iterdir()) == []


def test_instance_folder_may_be_relative_to_current_folder(package: Package) -> None:
    package.succeed("init-db", INSTANCE_FOLDER="here")
    assert (package.folder / "here" / "budget_sync.db").exists()
    assert list(package.home.iterdir()) == []


def test_env_file_in_instance_folder_is_the_one_read(package: Package, tmp_path: Path) -> None:
    (package.folder / ".env").write_text("LOG_LEVEL=another project's\n", encoding="utf-8")
    (tmp_path / ".env").write_text("DATABASE_URL=sqlite:///named.db\n", encoding="utf-8")
    package.succeed("init-db", INSTANCE_FOLDER=str(tmp_path))
    assert (tmp_path / "named.db").exists()
