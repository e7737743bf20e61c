"""Files of an installation: only for the service's user, and safe from links to root's files."""

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
from support.machine import UNPRIVILEGED_UID, call_as_unprivileged_user, root_only, sqlite_only
from support.world import ROOT, reserve_body

from app import create_app
from budget_sync import database, settings, sync
from budget_sync.accounts import people
from budget_sync.domain.errors import RequestError
from budget_sync.runtime import files
from budget_sync.runtime.slots import try_file_lock

JANES_NEW_PASSWORD = "a password of Jane's"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def owners(folder: Path) -> dict[str, int]:
    """The owner of everything in a folder; of links, not of their targets."""
    return {str(path.relative_to(folder)): path.lstat().st_uid for path in folder.rglob("*")}


CREATORS: dict[str, Callable[[Path], object]] = {
    "create": lambda path: os.close(files.create(path)),
    "open_or_create": lambda path: os.close(files.open_or_create(path)),
    "create_once": lambda path: files.create_once(path, "text"),
    "write": lambda path: files.write(path, "text"),
    "create_folder": files.create_folder,
}
every_creator = pytest.mark.parametrize("creator", CREATORS.values(), ids=CREATORS)


@every_creator
def test_new_files_are_accessible_to_their_owner_only(
    tmp_path: Path, creator: Callable[[Path], object]
) -> None:
    before = os.umask(0)
    try:
        creator(tmp_path / "new")
    finally:
        os.umask(before)
    assert mode(tmp_path / "new") == (0o700 if (tmp_path / "new").is_dir() else 0o600)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_existing_file_is_kept_or_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.create_once(path, "first")
    files.create_once(path, "second")
    os.close(files.open_or_create(path))
    with pytest.raises(FileExistsError):
        files.create(path)
    assert path.read_text(encoding="utf-8") == "first"
    files.write(path, "third")
    assert path.read_text(encoding="utf-8") == "third"
    with pytest.raises(FileExistsError):
        files.create_folder(path)
    files.create_folder(tmp_path)
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


def test_slower_process_opens_the_file_of_the_faster(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = files.create

    def late(path: Path) -> int:
        path.write_text("first", encoding="utf-8")
        return create(path)

    monkeypatch.setattr(files, files.create.__name__, late)
    with open(files.open_or_create(tmp_path / "file"), encoding="utf-8") as opened:
        assert opened.read() == "first"


@pytest.mark.parametrize(
    "creator",
    [CREATORS["create"], CREATORS["open_or_create"], CREATORS["create_once"]],
    ids=["create", "open_or_create", "create_once"],
)
def test_links_are_not_followed(tmp_path: Path, creator: Callable[[Path], object]) -> None:
    target, link = tmp_path / "target", tmp_path / "link"
    for exists in (False, True):
        link.symlink_to(target)
        if creator is CREATORS["create_once"]:
            creator(link)
        else:
            with pytest.raises(OSError, match=str(link)):
                creator(link)
        assert target.exists() == exists
        assert link.is_symlink()
        link.unlink()
        target.write_text("", encoding="utf-8")


def test_write_replaces_a_link_and_not_its_target(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("precious", encoding="utf-8")
    (tmp_path / "link").symlink_to("target")
    files.write(tmp_path / "link", "text")
    assert (tmp_path / "target").read_text(encoding="utf-8") == "precious"
    assert (tmp_path / "link").read_text(encoding="utf-8") == "text"


@pytest.mark.parametrize(
    "creator", [CREATORS["create_once"], CREATORS["write"]], ids=["create_once", "write"]
)
def test_failed_write_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, creator: Callable[[Path], object]
) -> None:
    create = files.create

    def make_on_full_disk(path: Path) -> int:
        os.close(create(path))
        return os.open("/dev/full", os.O_WRONLY)

    monkeypatch.setattr(files, files.create.__name__, make_on_full_disk)
    with pytest.raises(OSError, match="No space left"):
        creator(tmp_path / "file")
    assert list(tmp_path.iterdir()) == []


def test_failed_replacement_leaves_no_draft(tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(IsADirectoryError):
        files.write(tmp_path / "file", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


# Files that root creates.


@pytest.fixture
def theirs() -> Iterator[Path]:
    """A folder of the unprivileged user, at a path that this user can reach."""
    folder = Path(tempfile.mkdtemp(prefix="budget-sync-tests-"))
    os.chown(folder, UNPRIVILEGED_UID, UNPRIVILEGED_UID)
    yield folder
    shutil.rmtree(folder)


@root_only
@every_creator
def test_root_gives_new_files_to_the_folders_owner(
    theirs: Path, tmp_path: Path, creator: Callable[[Path], object]
) -> None:
    creator(theirs / "new")
    assert ((theirs / "new").stat().st_uid, (theirs / "new").stat().st_gid) == (
        UNPRIVILEGED_UID,
        UNPRIVILEGED_UID,
    )
    creator(tmp_path / "new")
    assert (tmp_path / "new").stat().st_uid == 0


@root_only
def test_root_gives_away_every_parent_it_creates(theirs: Path) -> None:
    files.create_folder(theirs / "a" / "b")
    assert owners(theirs) == {"a": UNPRIVILEGED_UID, "a/b": UNPRIVILEGED_UID}


@root_only
def test_file_like_another_has_its_owner(theirs: Path, tmp_path: Path) -> None:
    (tmp_path / "like").touch()
    os.chown(tmp_path / "like", UNPRIVILEGED_UID, UNPRIVILEGED_UID)
    for folder in (tmp_path, theirs):
        os.close(files.create(folder / "new", like="like"))
        assert (folder / "new").stat().st_uid == UNPRIVILEGED_UID


@root_only
def test_file_that_cannot_be_given_away_is_removed(
    theirs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "fchown", denied)
    with pytest.raises(PermissionError, match="new"):
        files.create(theirs / "new")
    assert list(theirs.iterdir()) == []


@root_only
def test_links_do_not_change_files_of_root(theirs: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("root's", encoding="utf-8")
    for name in ("lock", "note", "key", "sync-1.lock"):
        (theirs / name).symlink_to(secret)
    (theirs / "folder").symlink_to(tmp_path)
    with pytest.raises(OSError, match="lock"):
        files.open_or_create(theirs / "lock")
    with pytest.raises(RequestError) as raised, try_file_lock(theirs / "sync-1.lock"):
        pass
    assert "sync-1.lock" in str(raised.value.__cause__)
    files.write(theirs / "note", "a note")
    files.create_once(theirs / "key", "a key")
    files.create_folder(theirs / "folder")
    files.create_folder(theirs / "folder" / "inner")
    os.close(files.create(theirs / "folder" / "new"))
    assert secret.read_text(encoding="utf-8") == "root's"
    assert tmp_path.stat().st_uid == 0
    assert set(owners(tmp_path).values()) == {0}


@root_only
@pytest.mark.parametrize("swapped", ["for a link", "for a full folder"])
def test_swapped_folder_is_not_given_away(
    theirs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swapped: str
) -> None:
    mkdir, full = Path.mkdir, theirs / "full"
    full.mkdir()
    (full / "file").touch()

    def swap(path: Path, mode: int) -> None:
        mkdir(path, mode)
        path.rmdir()
        if swapped == "for a link":
            path.symlink_to(tmp_path)
        else:
            full.rename(path)

    monkeypatch.setattr(Path, "mkdir", swap)
    if swapped == "for a link":
        with pytest.raises(OSError, match="new"):
            files.create_folder(theirs / "new")
        assert tmp_path.stat().st_uid == 0
    else:
        files.create_folder(theirs / "new")
        assert (theirs / "new").stat().st_uid == 0


@root_only
def test_sqlites_files_belong_to_the_databases_owner(theirs: Path) -> None:
    path = theirs / "a.db"
    os.close(files.create(path))
    connection = sqlite3.connect(path, isolation_level=None)
    try:
        connection.execute("PRAGMA journal_mode = wal")
        connection.execute("CREATE TABLE t (x)")
        assert owners(theirs) == {
            "a.db": UNPRIVILEGED_UID,
            "a.db-wal": UNPRIVILEGED_UID,
            "a.db-shm": UNPRIVILEGED_UID,
        }
        assert {mode(file) for file in theirs.iterdir()} == {0o600}
    finally:
        connection.close()


@pytest.fixture
def installation_of_root(installation: Installation) -> Iterator[Installation]:
    """An installation of root in which everything works."""
    del installation.environment["SECRET_KEY"]
    assert use(installation) == SUCCESS
    yield installation
    database.disconnect()


SUCCESS = {"ready": 200, "reserve": 200, "login": 200, "sync": ["success"]}


def use(installation: Installation) -> dict[str, object]:
    """The outcome of everything that needs a file, in this process."""
    chosen = settings.load(installation.environment)
    client = create_app(chosen).test_client()
    people.set_password(ROOT, "user-123", JANES_NEW_PASSWORD, slots_folder=chosen.instance_folder)
    return {
        "ready": client.get("/readyz").status_code,
        "reserve": client.post(
            "/api/budget/reserve", json=reserve_body(), headers=installation.key()
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
def test_service_can_use_the_files_of_root(
    installation_of_root: Installation, theirs: Path, tmp_path: Path, begin: str
) -> None:
    service = Installation({"INSTANCE_FOLDER": str(theirs / "instance")})
    service.flask("init-db")
    if begin == "restore":
        service.flask("backup", str(tmp_path / "a.db"))
        shutil.rmtree(service.folder)
        service.flask("restore", str(tmp_path / "a.db"))
    for command in (("demo",), ("sync-sheets",), ("backup", str(tmp_path))):
        service.flask(*command)
    found = owners(theirs)
    assert set(found.values()) == {UNPRIVILEGED_UID}, found
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
    assert call_as_unprivileged_user(lambda: use(service)) == SUCCESS


@root_only
@sqlite_only
@pytest.mark.parametrize(
    "closed", ["budget_sync.db", "budget_sync.db.lock", "budget_sync.db.turnstile"]
)
def test_process_without_write_access_is_not_ready(
    installation_of_root: Installation, theirs: Path, closed: str
) -> None:
    service = Installation(
        {"INSTANCE_FOLDER": str(theirs), "SECRET_KEY": "a key for tests, long enough"}
    )
    for command in ("init-db", "demo"):
        service.flask(command)
    os.chown(theirs / closed, 0, 0)
    # It may be read, which is not enough.
    (theirs / closed).chmod(0o644)

    def statuses() -> list[int]:
        client = create_app(settings.load(service.environment)).test_client()
        return [
            client.get("/readyz").status_code,
            client.post(
                "/api/budget/reserve", json=reserve_body(), headers=service.key()
            ).status_code,
        ]

    assert call_as_unprivileged_user(statuses) == [503, 503]
