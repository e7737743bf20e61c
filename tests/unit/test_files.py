"""The files of an installation: for the service's user alone, whoever makes them; and nobody leads root to another's."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from peewee import sqlite3  # type: ignore[attr-defined]  # missing from peewee's stubs
from support.installation import Installation
from support.machine import NOBODY, as_nobody, root_only, sqlite_only
from support.world import ROOT, reserve_body

from app import create_app
from budget_sync import database, settings, sync
from budget_sync.accounts import people
from budget_sync.runtime import files

JANES_NEW_PASSWORD = "a password of Jane's"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def owners(folder: Path) -> dict[str, int]:
    """Whose everything in a folder is, but for the links' targets."""
    return {str(path.relative_to(folder)): path.lstat().st_uid for path in folder.rglob("*")}


MAKERS: dict[str, Callable[[Path], object]] = {
    "make": lambda path: os.close(files.make(path)),
    "open_or_make": lambda path: os.close(files.open_or_make(path)),
    "make_once": lambda path: files.make_once(path, "text"),
    "write": lambda path: files.write(path, "text"),
    "make_folder": files.make_folder,
}
every_maker = pytest.mark.parametrize("maker", MAKERS.values(), ids=MAKERS)


@every_maker
def test_what_is_made_is_its_owners_alone(tmp_path: Path, maker: Callable[[Path], object]) -> None:
    before = os.umask(0)
    try:
        maker(tmp_path / "made")
    finally:
        os.umask(before)
    assert mode(tmp_path / "made") == (0o700 if (tmp_path / "made").is_dir() else 0o600)
    assert [path.name for path in tmp_path.iterdir()] == ["made"]


def test_what_is_there_is_kept_or_written_anew_as_it_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.make_once(path, "first")
    files.make_once(path, "second")
    os.close(files.open_or_make(path))
    with pytest.raises(FileExistsError):
        files.make(path)
    assert path.read_text(encoding="utf-8") == "first"
    files.write(path, "third")
    assert path.read_text(encoding="utf-8") == "third"
    with pytest.raises(FileExistsError):
        files.make_folder(path)
    files.make_folder(tmp_path)
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


def test_who_comes_second_opens_what_the_first_has_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make = files.make

    def late(path: Path) -> int:
        path.write_text("first", encoding="utf-8")
        return make(path)

    monkeypatch.setattr(files, "make", late)
    with open(files.open_or_make(tmp_path / "file"), encoding="utf-8") as opened:
        assert opened.read() == "first"


@pytest.mark.parametrize(
    "maker",
    [MAKERS["make"], MAKERS["open_or_make"], MAKERS["make_once"]],
    ids=["make", "open_or_make", "make_once"],
)
def test_a_link_is_not_followed(tmp_path: Path, maker: Callable[[Path], object]) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    for there in (False, True):
        link.symlink_to(target)
        if maker is MAKERS["make_once"]:
            maker(link)
        else:
            with pytest.raises(OSError, match=str(link)):
                maker(link)
        assert target.exists() == there
        assert link.is_symlink()
        link.unlink()
        target.write_text("", encoding="utf-8")


def test_what_is_written_takes_a_links_place_and_leaves_its_target(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("precious", encoding="utf-8")
    (tmp_path / "link").symlink_to("target")
    files.write(tmp_path / "link", "text")
    assert (tmp_path / "target").read_text(encoding="utf-8") == "precious"
    assert (tmp_path / "link").read_text(encoding="utf-8") == "text"


@pytest.mark.parametrize(
    "maker", [MAKERS["make_once"], MAKERS["write"]], ids=["make_once", "write"]
)
def test_a_file_that_cannot_be_written_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, maker: Callable[[Path], object]
) -> None:
    make = files.make

    def make_without_room(path: Path) -> int:
        os.close(make(path))
        return os.open("/dev/full", os.O_WRONLY)

    monkeypatch.setattr(files, "make", make_without_room)
    with pytest.raises(OSError, match="No space left"):
        maker(tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_cannot_take_its_place_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(IsADirectoryError):
        files.write(tmp_path / "file", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# What root makes.


@pytest.fixture
def theirs() -> Iterator[Path]:
    """A folder of NOBODY's, where they can get to it."""
    folder = Path(tempfile.mkdtemp(prefix="budget-sync-tests-"))
    os.chown(folder, NOBODY, NOBODY)
    yield folder
    shutil.rmtree(folder)


@root_only
@every_maker
def test_root_gives_what_it_makes_to_the_folders_owner(
    theirs: Path, tmp_path: Path, maker: Callable[[Path], object]
) -> None:
    maker(theirs / "made")
    assert ((theirs / "made").stat().st_uid, (theirs / "made").stat().st_gid) == (NOBODY, NOBODY)
    maker(tmp_path / "made")
    assert (tmp_path / "made").stat().st_uid == 0


@root_only
def test_root_gives_away_every_folder_on_the_way(theirs: Path) -> None:
    files.make_folder(theirs / "a" / "b")
    assert owners(theirs) == {"a": NOBODY, "a/b": NOBODY}


@root_only
def test_a_file_like_another_belongs_to_whom_that_one_belongs(theirs: Path, tmp_path: Path) -> None:
    (tmp_path / "like").touch()
    os.chown(tmp_path / "like", NOBODY, NOBODY)
    for folder in (tmp_path, theirs):
        os.close(files.make(folder / "made", like="like"))
        assert (folder / "made").stat().st_uid == NOBODY


@root_only
def test_a_file_that_cannot_be_given_away_is_not_made(
    theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "fchown", refused)
    with pytest.raises(PermissionError, match="made"):
        files.make(theirs / "made")
    assert list(theirs.iterdir()) == []


@root_only
def test_roots_own_files_stay_roots_whatever_links_lie_in_the_folder(
    theirs: Path, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("root's", encoding="utf-8")
    for name in ("lock", "note", "key", "sync-1.lock"):
        (theirs / name).symlink_to(secret)
    (theirs / "folder").symlink_to(tmp_path)
    with pytest.raises(OSError, match="lock"):
        files.open_or_make(theirs / "lock")
    with pytest.raises(OSError, match=r"sync-1\.lock"), database.held_alone("sync-1", theirs):
        pass
    files.write(theirs / "note", "a note")
    files.make_once(theirs / "key", "a key")
    files.make_folder(theirs / "folder")
    files.make_folder(theirs / "folder" / "inner")
    os.close(files.make(theirs / "folder" / "made"))
    assert secret.read_text(encoding="utf-8") == "root's"
    assert tmp_path.stat().st_uid == 0
    assert set(owners(tmp_path).values()) == {0}


@root_only
@pytest.mark.parametrize("swapped", ["with a link", "with a full folder"])
def test_a_folder_that_is_swapped_under_roots_hands_is_not_given_away(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swapped: str
) -> None:
    mkdir, full = Path.mkdir, theirs / "full"
    full.mkdir()
    (full / "file").touch()

    def swap(path: Path, mode: int) -> None:
        mkdir(path, mode)
        path.rmdir()
        if swapped == "with a link":
            path.symlink_to(tmp_path)
        else:
            full.rename(path)

    monkeypatch.setattr(Path, "mkdir", swap)
    if swapped == "with a link":
        with pytest.raises(OSError, match="made"):
            files.make_folder(theirs / "made")
        assert tmp_path.stat().st_uid == 0
    else:
        files.make_folder(theirs / "made")
        assert (theirs / "made").stat().st_uid == 0


@root_only
def test_what_sqlite_makes_beside_a_database_belongs_to_the_databases_owner(theirs: Path) -> None:
    path = theirs / "a.db"
    os.close(files.make(path))
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute("CREATE TABLE t (x)")
        assert owners(theirs) == {"a.db": NOBODY, "a.db-wal": NOBODY, "a.db-shm": NOBODY}
        assert {mode(file) for file in theirs.iterdir()} == {0o600}
    finally:
        connection.close()


@pytest.fixture
def roots(installation: Installation) -> Iterator[Installation]:
    """An installation of root's own, where all works."""
    del installation.environment["SECRET_KEY"]
    assert serve(installation) == ALL_IS_WELL
    yield installation
    database.disconnect()


ALL_IS_WELL = {"ready": 200, "reserve": 200, "login": 200, "sync": ["success"]}


def serve(made: Installation) -> dict[str, object]:
    """What comes of all that needs a file of its own, in this process."""
    chosen = settings.load(made.environment)
    client = create_app(chosen).test_client()
    people.set_password(ROOT, "user-123", JANES_NEW_PASSWORD, slots_folder=chosen.instance_folder)
    return {
        "ready": client.get("/readyz").status_code,
        "reserve": client.post(
            "/api/budget/reserve", json=reserve_body(), headers=made.key()
        ).status_code,
        "login": client.post(
            "/api/auth/login", json={"email": "jane@acme.com", "password": JANES_NEW_PASSWORD}
        ).status_code,
        "sync": [
            result.status
            for result in sync.sync_all(
                sync.Job(ROOT, sync.Reach.of(chosen), chosen.instance_folder)
            )
        ],
    }


@root_only
@sqlite_only
@pytest.mark.parametrize("begin", ["init-db", "restore"])
def test_a_service_works_on_what_root_has_made(
    roots: Installation, theirs: Path, tmp_path: Path, begin: str
) -> None:
    made = Installation({"INSTANCE_FOLDER": str(theirs / "instance")})
    made.flask("init-db")
    if begin == "restore":
        made.flask("backup", str(tmp_path / "a.db"))
        shutil.rmtree(made.folder)
        made.flask("restore", str(tmp_path / "a.db"))
    for command in (("demo",), ("sync-sheets",), ("backup", str(tmp_path))):
        made.flask(*command)
    found = owners(theirs)
    assert set(found.values()) == {NOBODY}, found
    names = {path.name for path in theirs.rglob("*")}
    assert {
        "budget_sync.db",
        "budget_sync.db.lock",
        "secret_key",
        "password-slot-0.lock",
        "last_backup.json",
        "orchestrator.header",
        "demo.csv",
    } <= names
    assert any(name.startswith("sync-") for name in names)
    assert as_nobody(lambda: serve(made)) == ALL_IS_WELL


@root_only
@sqlite_only
@pytest.mark.parametrize(
    "closed", ["budget_sync.db", "budget_sync.db.lock", "budget_sync.db.turnstile"]
)
def test_a_process_that_may_not_write_a_file_of_the_databases_is_not_ready(
    roots: Installation, theirs: Path, closed: str
) -> None:
    made = Installation(
        {"INSTANCE_FOLDER": str(theirs), "SECRET_KEY": "a key for tests, long enough"}
    )
    for command in ("init-db", "demo"):
        made.flask(command)
    os.chown(theirs / closed, 0, 0)
    # To be read it is open: that alone makes nobody ready.
    (theirs / closed).chmod(0o644)

    def ask() -> list[int]:
        client = create_app(settings.load(made.environment)).test_client()
        return [
            client.get("/readyz").status_code,
            client.post("/api/budget/reserve", json=reserve_body(), headers=made.key()).status_code,
        ]

    assert as_nobody(ask) == [503, 503]
