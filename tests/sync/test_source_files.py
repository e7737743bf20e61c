"""Uploaded files as sources: stored, replaced after a look, and never by another kind of file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from flask import Flask
from support.sync_world import ORG, World, open_world
from support.world import ROOT

from budget_sync import sync
from budget_sync.database.models import AuditLog, SourceFile
from budget_sync.domain.errors import Code, RequestError
from budget_sync.domain.permissions import Actor, Role
from budget_sync.settings import Settings
from budget_sync.sync import uploads
from budget_sync.sync.source import CSV, XLSX, Source
from budget_sync.sync.standard import standard_reading
from budget_sync.sync.targets import (
    MAX_NAME_CHARS,
    MAX_UPLOAD_BYTES,
    clean_name,
    kind_of,
    upload_target,
)

pytestmark = pytest.mark.both_engines

HEADER = b"Department,Fiscal Period,Budgeted Amount\n"
FIRST = HEADER + b"Sales,Q1 2025,1000\nLegal,Q1 2025,500\n"
SECOND = HEADER + b"Sales,Q1 2025,1100\nLegal,Q1 2025,500\n"
ADMIN = Actor("user:fiona", "fiona", "Fiona", "fiona@acme.com", Role.FPA_ADMIN, ORG)


@pytest.fixture
def world(app: Flask, chosen: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    with open_world(chosen.instance_folder, monkeypatch) as world:
        yield world


@pytest.fixture
def source(world: World) -> Source:
    """An uploaded CSV file, synced once."""
    target = upload_target("budgets.csv", FIRST)
    source, _ = sync.add_source(ADMIN, ORG, target, reading=standard_reading())
    assert world.sync(source).status == "success"
    return source


def test_uploaded_file_is_synced_and_named_without_a_path(world: World, source: Source) -> None:
    assert world.budgets() == {"Legal, Q1 2025": "500", "Sales, Q1 2025": "1000"}
    assert sync.list_sources(ADMIN)[0].label == "CSV budgets.csv"
    added = AuditLog.get(AuditLog.action == "ADD_SOURCE")
    assert (added.subject, added.newValue) == (source.id, "CSV budgets.csv")


def test_newer_file_changes_nothing_until_it_is_used(world: World, source: Source) -> None:
    stored = uploads.store_upload(ADMIN, source.id, "new.csv", SECOND)
    assert (stored.name, stored.size) == ("new.csv", len(SECOND))
    assert world.sync(source).unchanged_count == 2
    preview = sync.preview_source(world.job, source, pending=True)
    assert preview.summary == "1 to change, 1 unchanged."
    uploads.use_upload(ADMIN, source.id, stored.digest)
    assert world.sync(source).updated_count == 1
    assert world.budgets()["Sales, Q1 2025"] == "1100"
    used = AuditLog.get(AuditLog.action == "SET_FILE")
    assert (used.subject, used.oldValue, used.newValue) == (source.id, "budgets.csv", "new.csv")
    assert uploads.stored_file(ADMIN, source.id) is None


def test_only_the_file_that_was_seen_is_used(source: Source) -> None:
    seen = uploads.store_upload(ADMIN, source.id, "new.csv", SECOND)
    uploads.store_upload(ADMIN, source.id, "new.csv", FIRST + b"IT,Q1 2025,9\n")
    with pytest.raises(RequestError) as error:
        uploads.use_upload(ADMIN, source.id, seen.digest)
    assert error.value.code == Code.REQUEST_CONFLICT
    assert AuditLog.select().where(AuditLog.action == "SET_FILE").count() == 0


def test_file_and_its_reading_change_together(world: World, source: Source) -> None:
    seen = uploads.store_upload(ADMIN, source.id, "new.csv", SECOND)
    reading = standard_reading().model_copy(update={"unit": 1000})
    with pytest.raises(RequestError):
        sync.store_reading(ADMIN, source.id, reading, upload="of another file")
    without_format = reading.model_copy(update={"file": None})
    with pytest.raises(RequestError):
        sync.store_reading(ADMIN, source.id, without_format, upload=seen.digest)
    now = sync.get_source(ADMIN, source.id)
    assert (now.upload_name, now.reading) == ("budgets.csv", standard_reading())
    now = sync.store_reading(ADMIN, source.id, reading, upload=seen.digest)
    assert (now.upload_name, now.reading) == ("new.csv", reading)


def test_discarded_file_is_gone(world: World, source: Source) -> None:
    seen = uploads.store_upload(ADMIN, source.id, "new.csv", SECOND)
    uploads.discard_upload(ADMIN, source.id)
    assert uploads.stored_file(ADMIN, source.id) is None
    with pytest.raises(RequestError):
        uploads.use_upload(ADMIN, source.id, seen.digest)
    assert world.sync(source).unchanged_count == 2


def test_file_of_another_kind_is_rejected(world: World, source: Source) -> None:
    with pytest.raises(RequestError) as error:
        uploads.store_upload(ADMIN, source.id, "new.csv", b"PK\x03\x04 and more")
    assert error.value.fields == {"file": "must be a CSV file, as before"}
    other = world.csv("plan.csv", FIRST)
    with pytest.raises(RequestError) as error:
        uploads.store_upload(ADMIN, other.id, "new.csv", SECOND)
    assert error.value.fields == {"file": "cannot be uploaded: this source is read elsewhere"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"a" * (MAX_UPLOAD_BYTES + 1), "is larger than 16 MB"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "is an .xls file"),
    ],
)
def test_unusable_upload_is_rejected(source: Source, content: bytes, says: str) -> None:
    for store in (
        lambda: upload_target("x.csv", content),
        lambda: uploads.store_upload(ADMIN, source.id, "x.csv", content),
    ):
        with pytest.raises(RequestError) as error:
            store()
        assert says in error.value.fields["file"]


def test_other_customers_and_roles_cannot_touch_a_file(world: World, source: Source) -> None:
    world.customer("org-2")
    stranger = replace(ADMIN, customer_id="org-2")
    with pytest.raises(RequestError) as error:
        uploads.store_upload(stranger, source.id, "x.csv", SECOND)
    assert error.value.code == Code.NOT_FOUND
    uploads.store_upload(ADMIN, source.id, "x.csv", SECOND)
    assert uploads.stored_file(stranger, source.id) is None
    for actor, code in (
        (stranger, Code.NOT_FOUND),
        (replace(ADMIN, role=Role.FPA_USER), Code.FORBIDDEN),
    ):
        with pytest.raises(RequestError) as error:
            uploads.discard_upload(actor, source.id)
        assert error.value.code == code


def test_removed_source_has_no_file_left(source: Source) -> None:
    uploads.store_upload(ADMIN, source.id, "x.csv", SECOND)
    sync.remove_source(ROOT, source.id)
    assert SourceFile.select().count() == 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("budgets.csv", "budgets.csv"),
        ("C:\\Users\\jo\\plan 2026.xlsx", "plan 2026.xlsx"),
        ("../../etc/passwd", "passwd"),
        ("a\r\nb\0c.csv", "a b c.csv"),
        ("  .  ", "sheet"),
        ("", "sheet"),
        ("\u202egnp.csv", "gnp.csv"),
    ],
)
def test_name_of_a_file_is_cleaned(name: str, expected: str) -> None:
    assert clean_name(name) == expected


def test_long_name_keeps_its_ending() -> None:
    name = clean_name("x" * 5000 + ".xlsx")
    assert len(name) == MAX_NAME_CHARS
    assert name.endswith("x.xlsx")


def test_kind_is_that_of_the_content() -> None:
    assert (kind_of(FIRST), kind_of(b"PK\x03\x04...")) == (CSV, XLSX)
