"""Which problems of a sync run are for the operator of the service, and not for finance. Pure."""

from __future__ import annotations

from typing import Final

#: Parts of the messages about the installation: its credentials, its files and its database.
_MARKS: Final = (
    "GOOGLE_APPLICATION_CREDENTIALS",
    "credentials file",
    "the credentials",
    "folder for CSV files",
    "path is not a regular file",
    "file cannot be opened:",
    "operator of this service",
    "Google's reply does not match",
    "on our side",
    "The database",
)


def is_for_operator(message: str | None) -> bool:
    """Whether only the operator can solve the problem in the message of a failed sync run."""
    return message is not None and any(mark in message for mark in _MARKS)
