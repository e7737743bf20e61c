"""Settings, read once from the environment and from `.env` in the folder of `app.py`.

An invalid value stops the program with one line that names the setting.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

import psycopg
from dotenv import dotenv_values, find_dotenv
from psycopg.conninfo import conninfo_to_dict

from budget_sync.domain.misspellings import Misspelling, find_misspellings
from budget_sync.runtime import files

_PACKAGE_FOLDER = Path(__file__).resolve().parent

#: Only an installed package has this folder, with app.py, cli.py and schema.sql in it. In a
#: checkout, these files are beside the package.
_INSTALLED_PROGRAM = _PACKAGE_FOLDER / "toplevel"

IS_INSTALLED = _INSTALLED_PROGRAM.is_dir()

#: The folder of app.py, cli.py and schema.sql.
PROGRAM_FOLDER = _INSTALLED_PROGRAM if IS_INSTALLED else _PACKAGE_FOLDER.parent

MIN_SECRET_LENGTH = 16

#: The names of this machine that monitoring and health checks use.
LOOPBACK_HOSTS = ("127.0.0.1", "localhost")

# Paths, URLs and lists of hosts are shorter, and so are names of hosts.
_MAX_LENGTH = 4096
_MAX_HOST_LENGTH = 255

#: On Linux, the environment that this process was started with.
_INITIAL_ENVIRONMENT = Path("/proc/self/environ")

_SHEETS_URL = "https://sheets.googleapis.com"

#: An example for the error message of each setting. DATABASE_URL's messages contain theirs.
_EXAMPLES = {
    "INSTANCE_FOLDER": "INSTANCE_FOLDER=/var/lib/budget-sync",
    "SECRET_KEY": "the output of `openssl rand -hex 32`",
    "GOOGLE_APPLICATION_CREDENTIALS": "GOOGLE_APPLICATION_CREDENTIALS=/etc/budget-sync/google.json",
    "GOOGLE_SHEETS_API_URL": "GOOGLE_SHEETS_API_URL=https://sheets.googleapis.com",
    "CSV_FOLDER": "CSV_FOLDER=/var/lib/budget-sync/sheets",
    "BUDGET_CHECK_AUTH": "BUDGET_CHECK_AUTH=required",
    "IDENTITY_FILE": "IDENTITY_FILE=/etc/budget-sync/identity.toml",
    "TRUSTED_HOSTS": "TRUSTED_HOSTS=budgets.example.com,localhost",
    "TRUSTED_PROXIES": "TRUSTED_PROXIES=1",
    "SESSION_COOKIE_SECURE": "SESSION_COOKIE_SECURE=true",
    "WEBHOOK_PRIVATE_NETWORKS": "WEBHOOK_PRIVATE_NETWORKS=true",
    "PUBLIC_URL": "PUBLIC_URL=https://budgets.example.com",
    "LOG_FORMAT": "LOG_FORMAT=json",
    "LOG_LEVEL": "LOG_LEVEL=INFO",
}

#: Every setting.
NAMES = (*_EXAMPLES, "DATABASE_URL", "CRON_SECRET", "METRICS_TOKEN")

T = TypeVar("T")


def _data_folder() -> Path:
    """The data folder of an installed package: INSTANCE_FOLDER, or a folder in the user's home."""
    # os.path.expanduser, unlike Path.expanduser, does not raise: this runs on import.
    if named := os.environ.get("INSTANCE_FOLDER"):
        return Path.cwd() / os.path.expanduser(named)  # noqa: PTH111
    shared = Path(os.environ.get("XDG_DATA_HOME", ""))
    # The XDG specification says to ignore a relative path.
    if not shared.is_absolute():
        shared = Path(os.path.expanduser("~/.local/share"))  # noqa: PTH111
    return shared / "budget-sync"


#: The folder of `.env`, where relative paths in settings start: the checkout, or the data folder of
#: an installed package.
PROJECT_FOLDER = _data_folder() if IS_INSTALLED else PROGRAM_FOLDER


_IDENTITY_FILE = PROJECT_FOLDER / "identity.toml"


class SettingsError(ValueError):
    """A setting has an invalid value. The text names the setting and gives an example."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of an installation. Paths are absolute; times are in seconds."""

    instance_folder: Path
    database_path: Path
    secret_key: str = field(repr=False)
    # A secret that is too short does not stop the start: requests that send it are rejected.
    cron_secret: str | None = field(default=None, repr=False)
    metrics_token: str | None = field(default=None, repr=False)
    google_credentials: Path | None = None
    google_sheets_api_url: str = _SHEETS_URL
    csv_folder: Path = PROJECT_FOLDER / "instance" / "sheets"
    budget_check_auth: str = "local"
    trusted_hosts: tuple[str, ...] = ()
    trusted_proxies: int = 0
    session_cookie_secure: bool = False
    webhook_private_networks: bool = False
    #: The address of the console for people, without a slash at its end.
    public_url: str | None = None
    log_format: str = "text"
    log_level: str = "INFO"
    busy_timeout_s: float = 5.0
    database_url: str | None = field(default=None, repr=False)
    #: The file of the identity providers; it need not exist unless it is named in the settings.
    identity_file: Path = _IDENTITY_FILE
    is_identity_file_named: bool = False
    #: All variables, for the secrets that the identity file names.
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    #: The names in the environment and in `.env` that are no settings.
    other_names: frozenset[str] = field(default=frozenset(), repr=False)

    @property
    def misspellings(self) -> list[Misspelling]:
        """The names that look like a setting but have no effect."""
        return find_misspellings(self.other_names, NAMES)

    @property
    def accepted_hosts(self) -> tuple[str, ...]:
        """The host names that a request may have; empty if any.

        The names of this machine are accepted together: each of them leads to the same service.
        """
        added = LOOPBACK_HOSTS if any(map(_is_loopback_host, self.trusted_hosts)) else ()
        return tuple(dict.fromkeys((*self.trusted_hosts, *added)))

    @property
    def database(self) -> Path | str:
        """The database to connect to: the URL on PostgreSQL, the file on SQLite."""
        return self.database_url or self.database_path


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """The settings of this process, or of `environ`, which replaces its environment and `.env`.

    Raises SettingsError for the first invalid value.
    """
    values = _environment() if environ is None else _without_empty(environ)
    instance_folder = _read(
        values,
        "INSTANCE_FOLDER",
        lambda text: _folder(text, PROJECT_FOLDER),
        PROJECT_FOLDER if IS_INSTALLED else PROJECT_FOLDER / "instance",
    )
    database_url = _read(values, "DATABASE_URL", postgresql_url, None)
    return Settings(
        instance_folder=instance_folder,
        database_path=_read(
            values,
            "DATABASE_URL",
            lambda url: _database_path(url, instance_folder),
            instance_folder / "budget_sync.db",
        ),
        secret_key=_read(values, "SECRET_KEY", _secret, None)
        or (_no_secret_key() if database_url else _kept_secret_key(instance_folder)),
        cron_secret=values.get("CRON_SECRET"),
        metrics_token=values.get("METRICS_TOKEN"),
        google_credentials=_read(values, "GOOGLE_APPLICATION_CREDENTIALS", _project_path, None),
        google_sheets_api_url=_read(values, "GOOGLE_SHEETS_API_URL", _sheets_url, _SHEETS_URL),
        csv_folder=_read(
            values,
            "CSV_FOLDER",
            lambda text: _folder(text, instance_folder),
            instance_folder / "sheets",
        ),
        budget_check_auth=_read(
            values, "BUDGET_CHECK_AUTH", _one_of("local", "open", "required"), "local"
        ),
        trusted_hosts=_read(values, "TRUSTED_HOSTS", _hosts, ()),
        trusted_proxies=_read(values, "TRUSTED_PROXIES", _small_number, 0),
        session_cookie_secure=_read(values, "SESSION_COOKIE_SECURE", _yes_or_no, False),
        webhook_private_networks=_read(values, "WEBHOOK_PRIVATE_NETWORKS", _yes_or_no, False),
        public_url=_read(values, "PUBLIC_URL", _public_url, None),
        log_format=_read(values, "LOG_FORMAT", _one_of("text", "json"), "text"),
        log_level=_read(values, "LOG_LEVEL", _log_level, "INFO"),
        database_url=database_url,
        identity_file=_read(values, "IDENTITY_FILE", _project_path, _IDENTITY_FILE),
        is_identity_file_named="IDENTITY_FILE" in values,
        variables=values,
        other_names=frozenset(values) - frozenset(NAMES),
    )


def _without_empty(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if value != ""}


def _log_level(text: str) -> str:
    return _one_of("DEBUG", "INFO", "WARNING", "ERROR")(text.upper())


def _environment() -> dict[str, str]:
    """The process's environment, which has priority, and `.env`.

    Cron jobs have none of the service's environment, so `.env` is always read too.
    """
    _remove_foreign_variables()
    path = PROJECT_FOLDER / ".env"
    try:
        from_file = dotenv_values(path)
    except (OSError, UnicodeError) as error:
        raise SettingsError(
            f"{path} cannot be read: {error}. It must be UTF-8 text with lines such as "
            "LOG_LEVEL=INFO, readable by this user."
        ) from None
    merged: dict[str, str | None] = {**from_file, **os.environ}
    if IS_INSTALLED and os.environ.get("INSTANCE_FOLDER"):
        # A relative path in the environment starts in the current folder, not at `.env`.
        merged["INSTANCE_FOLDER"] = str(PROJECT_FOLDER)
    return {name: value for name, value in merged.items() if value}


def _remove_foreign_variables() -> None:
    """Remove variables that Flask's command line loaded from the files of another project.

    Flask loads the first `.env` and the first `.flaskenv` that it finds from the current folder
    upwards, before this module runs. Variables of another project would have priority over this
    project's `.env`. Nothing is removed if the initial environment of the process is unknown or if
    `flask --env-file` named a file.
    """
    if os.environ.get("FLASK_RUN_FROM_CLI") != "true" or any(
        word.partition("=")[0] in ("-e", "--env-file") for word in sys.argv
    ):
        return
    try:
        entries = _INITIAL_ENVIRONMENT.read_bytes().split(b"\0")
    except OSError:
        return
    initial_names = {os.fsdecode(entry.partition(b"=")[0]) for entry in entries}
    for variable in (_foreign_names(".flaskenv") | _foreign_names(".env")) - initial_names:
        os.environ.pop(variable, None)


def _foreign_names(name: str) -> set[str]:
    """The variables in the file that Flask loaded, unless it is in the folder of `app.py`."""
    try:
        found = find_dotenv(name, usecwd=True)
        return (
            set()
            if not found or Path(found).parent.resolve() == PROJECT_FOLDER
            else set(dotenv_values(found))
        )
    except (OSError, UnicodeError):
        # Flask could not read the file either.
        return set()


def _read(values: Mapping[str, str], name: str, parse: Callable[[str], T], default: T) -> T:
    text = values.get(name)
    if text is None:
        return default
    try:
        if len(text) > _MAX_LENGTH:
            raise ValueError(f"must have at most {_MAX_LENGTH:,} characters")
        return parse(text.strip())
    except ValueError as error:
        example = f". Example: {_EXAMPLES[name]}" if name in _EXAMPLES else ""
        raise SettingsError(f"{name} {str(error).rstrip('.')}{example}") from None


def _path(text: str, start: Path) -> Path:
    """An absolute path; a relative one starts at `start`.

    Symbolic links are not resolved, because their target may change while the process runs.
    """
    try:
        return start / Path(text).expanduser()
    except RuntimeError as error:
        raise ValueError(f"must be a path, not {text!r}: {error}") from None


def _project_path(text: str) -> Path:
    return _path(text, PROJECT_FOLDER)


def _folder(text: str, start: Path) -> Path:
    try:
        return _path(text, start).resolve()
    except (RuntimeError, OSError) as error:
        raise ValueError(f"must be a folder, not {text!r}: {error}") from None


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}, not {text!r}")
        return text

    return parse


def _yes_or_no(text: str) -> bool:
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off"):
        return False
    raise ValueError(f"must be true or false, not {text!r}")


def _small_number(text: str) -> int:
    if not text.isdecimal() or int(text) > 10:
        raise ValueError(
            f"must be the number of proxies in front of the service (0 to 10), not {text!r}"
        )
    return int(text)


def _hosts(text: str) -> tuple[str, ...]:
    hosts = tuple(host.strip() for host in text.split(",") if host.strip())
    if not hosts or any("/" in host or " " in host for host in hosts):
        raise ValueError(f"must be host names separated by commas, not {text!r}")
    return hosts


def _sheets_url(text: str) -> str:
    """The URL without a slash at its end.

    Raises ValueError for an invalid URL; the text never contains it, because it may hold a
    password.
    """
    try:
        parts = urlsplit(text)
    except ValueError:
        parts = urlsplit("")
    safe = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
    if not (safe and parts.hostname) or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError(
            "must be an https address, or an http address of this machine, without user, password, "
            "query or fragment"
        )
    return text.rstrip("/")


def _public_url(text: str) -> str:
    """The address of the service, without a slash at its end. Raises ValueError."""
    try:
        parts = urlsplit(text)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        is_address = False
    if not is_address or parts.query or parts.fragment or "@" in parts.netloc or " " in text:
        raise ValueError("must be the http or https address of the service, without query")
    return text.rstrip("/")


def _secret(text: str) -> str:
    if len(text) < MIN_SECRET_LENGTH:
        raise ValueError(f"must have at least {MIN_SECRET_LENGTH} characters")
    return text


def _is_postgresql(url: str) -> bool:
    return url.startswith(("postgresql://", "postgres://"))


def postgresql_url(url: str) -> str | None:
    """The URL if it is for PostgreSQL, otherwise None.

    Raises ValueError for an invalid URL; the text never contains it, because it holds the password.
    """
    if not _is_postgresql(url):
        return None
    try:
        parts = conninfo_to_dict(url)
    except psycopg.Error:
        parts = {}
    if not parts.get("dbname") or not all(
        port.isdecimal() for port in str(parts.get("port", "5432")).split(",")
    ):
        raise ValueError(
            "must look like postgresql://user:password@host:5432/database; percent-encode all "
            "characters of the password except letters and digits"
        )
    return url


def _database_path(url: str, instance_folder: Path) -> Path:
    """The file of a sqlite:/// URL.

    Three slashes mean a path relative to the instance folder, four an absolute path.
    """
    if _is_postgresql(url):
        return instance_folder / "budget_sync.db"
    parts = urlsplit(url)
    if (
        not url.startswith("sqlite:///")
        or parts.netloc
        or len(parts.path) < 2
        or parts.query
        or parts.fragment
    ):
        raise ValueError(
            "must look like sqlite:///budget_sync.db, "
            "sqlite:////var/lib/budget-sync/budget_sync.db or "
            "postgresql://user:password@host:5432/database"
        )
    return (instance_folder / unquote(parts.path[1:])).resolve()


def _no_secret_key() -> str:
    raise SettingsError(
        "SECRET_KEY must be set on PostgreSQL, because all servers of one database sign the same "
        f"sessions. Example: {_EXAMPLES['SECRET_KEY']}"
    )


def _kept_secret_key(instance_folder: Path) -> str:
    """The key in the instance folder, which is created on the first start.

    Only the owner of the file can read it.
    """
    path = instance_folder / "secret_key"
    try:
        files.create_folder(instance_folder)
        if not path.exists():
            # Two first starts at the same time use the same key.
            files.create_once(path, secrets.token_hex(32))
        key = path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeError) as error:
        raise SettingsError(
            f"SECRET_KEY is not set, and the key file {path} cannot be used: {error}. Fix the "
            "file, set INSTANCE_FOLDER to a folder that this user may write, or set SECRET_KEY. "
            f"Example: {_EXAMPLES['SECRET_KEY']}"
        ) from None
    if len(key) < MIN_SECRET_LENGTH:
        raise SettingsError(
            f"SECRET_KEY is not set, and the key in {path} has fewer than {MIN_SECRET_LENGTH} "
            "characters. Delete the file, so that a new key is created, or set SECRET_KEY. "
            f"Example: {_EXAMPLES['SECRET_KEY']}"
        )
    return key


def is_loopback(host: str) -> bool:
    """Whether a host name or address, without a port, means this machine."""
    if len(host) > _MAX_HOST_LENGTH:
        return False
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _is_loopback_host(host: str) -> bool:
    """Whether an entry of TRUSTED_HOSTS is a name of this machine. Flask ignores its port."""
    return is_loopback(host.lstrip(".").partition(":")[0])
