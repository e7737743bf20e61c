"""Names that look like a setting: found if they are meant for this program, and no others."""

from __future__ import annotations

import re

import pytest
from support.machine import PROJECT

from budget_sync import settings
from budget_sync.domain.misspellings import Misspelling, find_misspellings

#: Misspelled names and the setting that each means.
MEANT = {
    "TRUSTED_PROXYS": "TRUSTED_PROXIES",
    "TRUSTED_PROXY": "TRUSTED_PROXIES",
    "TRUSTED_HOST": "TRUSTED_HOSTS",
    "TRUSTEDHOSTS": "TRUSTED_HOSTS",
    "BUDGET_CHECKAUTH": "BUDGET_CHECK_AUTH",
    "BUDGET_CHECK_AUHT": "BUDGET_CHECK_AUTH",
    "METRIC_TOKEN": "METRICS_TOKEN",
    "METRICS-TOKEN": "METRICS_TOKEN",
    "CRONSECRET": "CRON_SECRET",
    "CRON_SECRETS": "CRON_SECRET",
    "DATABSE_URL": "DATABASE_URL",
    "DATABASE_URI": "DATABASE_URL",
    "database_url": "DATABASE_URL",
    "SECRETKEY": "SECRET_KEY",
    "FLASK_SECRET_KEY": "SECRET_KEY",
    "BUDGET_SYNC_LOG_LEVEL": "LOG_LEVEL",
    "LOG_LEVLE": "LOG_LEVEL",
    "LOGFORMAT": "LOG_FORMAT",
    "CSV_FOLDERS": "CSV_FOLDER",
    "INSTANCE_FOLER": "INSTANCE_FOLDER",
    "SESSION_COOKIES_SECURE": "SESSION_COOKIE_SECURE",
    "GOOGLE_APPLICATION_CREDENTIAL": "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_SHEET_API_URL": "GOOGLE_SHEETS_API_URL",
}

#: Names that belong to other programs.
FOREIGN = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TERM", "LANG", "TZ", "PWD", "_", "OLDPWD"),
    *("LS_COLORS", "LC_ALL", "XDG_DATA_HOME", "SSH_AUTH_SOCK", "INVOCATION_ID", "JOURNAL_STREAM"),
    *("HTTPS_PROXY", "no_proxy", "PGPASSWORD", "PGHOST", "PYTHONPATH", "VIRTUAL_ENV"),
    *("FLASK_APP", "FLASK_SKIP_DOTENV", "FLASK_DEBUG", "GUNICORN_CMD_ARGS", "CRON_TZ", "MAILTO"),
    *("TEST_DATABASE_URL", "TEST_ENGINE", "GOOGLE_CLOUD_PROJECT", "DATABASE_HOST", "LOG_DIR"),
    *("STATE_DIRECTORY", "LISTEN_FDS", "NOTIFY_SOCKET", "HOSTNAME", "EDITOR", "A", "é", "\x1b[2J"),
)


@pytest.mark.parametrize(("name", "meant"), MEANT.items())
def test_misspelled_setting_names_the_right_one(name: str, meant: str) -> None:
    assert find_misspellings([name], settings.NAMES) == [Misspelling(name, meant)]


def test_name_with_our_prefix_is_reported_without_a_guess() -> None:
    names = ["BUDGET_APPROVER", "SESSION_COOKIE_SAMESITE", "SECRET_KEY_FILE", "TRUSTED_NETWORKS"]
    assert find_misspellings(names, settings.NAMES) == [
        Misspelling(name, None) for name in sorted(names)
    ]


def test_settings_and_names_of_other_programs_are_not_reported() -> None:
    long_names = ["X" * 100_000, "DATABASE_URL" * 1000]
    assert find_misspellings([*settings.NAMES, *FOREIGN, *long_names], settings.NAMES) == []


def test_names_are_those_that_are_read() -> None:
    text = (PROJECT / "budget_sync" / "settings.py").read_text(encoding="utf-8")
    assert set(settings.NAMES) == set(re.findall(r'values(?:,\s+|\.get\(\s*)"([A-Z_]+)"', text))


def test_load_keeps_the_other_names_and_no_values() -> None:
    chosen = settings.load(
        {"SECRET_KEY": "a key for tests, long enough", "METRIC_TOKEN": "hunter2", "LANG": "C"}
    )
    assert [found.name for found in chosen.misspellings] == ["METRIC_TOKEN"]
    assert "hunter2" not in f"{chosen!r} {chosen.misspellings}"
    assert chosen.misspellings[0].sentence == (
        "METRIC_TOKEN is not a setting and has no effect. Did you mean METRICS_TOKEN?"
    )


@pytest.mark.parametrize(
    ("given", "accepted"),
    [
        ("", ()),
        ("budgets.example.com", ("budgets.example.com",)),
        ("b.example.com,127.0.0.1", ("b.example.com", "127.0.0.1", "localhost")),
        ("b.example.com,localhost", ("b.example.com", "localhost", "127.0.0.1")),
        ("127.0.0.1:8000", ("127.0.0.1:8000", "127.0.0.1", "localhost")),
        ("localhost,127.0.0.1", ("localhost", "127.0.0.1")),
        ("localhost.example.com", ("localhost.example.com",)),
    ],
)
def test_names_of_this_machine_are_accepted_together(given: str, accepted: tuple[str, ...]) -> None:
    chosen = settings.load({"SECRET_KEY": "a key for tests, long enough", "TRUSTED_HOSTS": given})
    assert chosen.accepted_hosts == accepted
