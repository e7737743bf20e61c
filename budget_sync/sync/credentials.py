"""Google credentials: reads the operator's credentials file, and checks where they will be sent."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit

import google.auth.exceptions
import google.oauth2.credentials
import google.oauth2.service_account

from budget_sync.settings import is_loopback
from budget_sync.sync.source import FetchError

SCOPES = ("https://www.googleapis.com/auth/spreadsheets.readonly",)
GOOGLE_TOKEN_URL = "https://oauth2.googleapis.com/token"  # noqa: S105  # an address, not a secret

# google-auth has only partial types; hence the "type: ignore" comments below.
Credentials = google.oauth2.service_account.Credentials | google.oauth2.credentials.Credentials


def load_credentials(path: Path | None) -> tuple[Credentials, str]:
    """The credentials of a service account or an authorized user, and the name of the account.

    The name says with which account a sheet must be shared. Raises FetchError.
    """
    if path is None:
        raise FetchError(
            "GOOGLE_APPLICATION_CREDENTIALS is not set: set it to the JSON file of a service "
            "account, and share the sheet with that account."
        )
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        token_url = about.get("token_uri") or GOOGLE_TOKEN_URL
        kind = about.get("type")
        if not _may_carry_secrets(token_url):
            raise FetchError("The token_uri in the credentials file must be https, or loopback.")
        if kind == "service_account":
            service = google.oauth2.service_account.Credentials.from_service_account_info(
                about, scopes=SCOPES
            )  # type: ignore[no-untyped-call]
            return service, about["client_email"]
        if kind == "authorized_user":
            user = google.oauth2.credentials.Credentials(  # type: ignore[no-untyped-call]
                None,
                refresh_token=about["refresh_token"],
                token_uri=token_url,
                client_id=about["client_id"],
                client_secret=about["client_secret"],
            )
            return user, "the authorized user"
    except OSError as error:
        raise FetchError(
            "The file in GOOGLE_APPLICATION_CREDENTIALS cannot be read: "
            f"{error.strerror}. Check the setting and the file's permissions."
        ) from None
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        google.auth.exceptions.GoogleAuthError,
    ):
        raise FetchError(
            "The credentials file is not the JSON of a service account or an authorized user: "
            "download it again."
        ) from None
    raise FetchError(
        f"The credentials file contains credentials of type {kind!r}: use those of a service "
        "account or an authorized user."
    )


def _may_carry_secrets(url: str) -> bool:
    parts = urlsplit(url)
    return bool(parts.hostname) and (
        parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
    )
