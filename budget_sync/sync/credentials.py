"""What a fetch shows to Google: the credentials in the file that an operator names, which go to no host but a safe one."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit

import google.auth.exceptions
import google.oauth2.credentials
import google.oauth2.service_account

from budget_sync.settings import is_loopback
from budget_sync.sync.source import FetchFailed

SCOPES = ("https://www.googleapis.com/auth/spreadsheets.readonly",)
GOOGLE_TOKEN_URL = "https://oauth2.googleapis.com/token"  # noqa: S105  # an address, no secret

Credentials = google.oauth2.service_account.Credentials | google.oauth2.credentials.Credentials


def load_credentials(path: Path | None) -> tuple[Credentials, str]:
    """A service account's or an authorised user's credentials, and whom to share a sheet with. Raises FetchFailed."""
    if path is None:
        raise FetchFailed(
            "GOOGLE_APPLICATION_CREDENTIALS is not set: name the JSON file of a service account that the sheet is shared with."
        )
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        token_url = about.get("token_uri") or GOOGLE_TOKEN_URL
        kind = about.get("type")
        if not _may_carry_secrets(token_url):
            raise FetchFailed("The token_uri in the credentials file must be https, or loopback.")
        if kind == "service_account":
            service = google.oauth2.service_account.Credentials.from_service_account_info(
                about, scopes=SCOPES
            )  # type: ignore[no-untyped-call]  # partial
            return service, about["client_email"]
        if kind == "authorized_user":
            user = google.oauth2.credentials.Credentials(  # type: ignore[no-untyped-call]  # partial
                None,
                refresh_token=about["refresh_token"],
                token_uri=token_url,
                client_id=about["client_id"],
                client_secret=about["client_secret"],
            )
            return user, "the authorised user"
    except OSError as error:
        raise FetchFailed(
            f"GOOGLE_APPLICATION_CREDENTIALS names a file that cannot be read: {error.strerror}."
        ) from None
    except (
        ValueError,
        KeyError,
        TypeError,
        AttributeError,
        google.auth.exceptions.GoogleAuthError,
    ):
        raise FetchFailed(
            "The credentials file is not the JSON of a service account or an authorised user: download it anew."
        ) from None
    raise FetchFailed(
        f"The credentials file holds credentials of type {kind!r}: a service account's or an authorised user's are needed."
    )


def _may_carry_secrets(url: str) -> bool:
    parts = urlsplit(url)
    return bool(parts.hostname) and (
        parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
    )
