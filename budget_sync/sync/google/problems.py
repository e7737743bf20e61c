"""Sentences for the error replies of the Sheets API: what they mean, and what to do."""

from __future__ import annotations

from collections.abc import Mapping

import requests
from gspread.exceptions import APIError

from budget_sync.sync.google.transport import short

#: For the address of an Excel file.
EXCEL_FILE = (
    "This is an Excel file in Drive. Use File > Save as Google Sheets, and enter that address."
)


def status_name(error: APIError) -> str:
    """Google's name of an error, such as "INVALID_ARGUMENT"; "" if the reply has none."""
    return str(error.error.get("status", "")) if isinstance(error.error, Mapping) else ""


def sentence(error: APIError, key: str | None, account: str) -> str:
    """The meaning of an error reply, for the account that reads the spreadsheet."""
    status = error.response.status_code
    message = short(error.error.get("message", "") if isinstance(error.error, Mapping) else "")
    if status == requests.codes.bad_request and status_name(error) == "FAILED_PRECONDITION":
        return EXCEL_FILE
    if status == requests.codes.not_found:
        return (
            f"There is no spreadsheet {key}: check the address, and whether the spreadsheet was "
            f"deleted. It must be shared with {account}."
        )
    if status == requests.codes.forbidden:
        return (
            f"Google denies {account} access to the spreadsheet (403: {message}): "
            "share it with that address, as a viewer."
        )
    if status == requests.codes.unauthorized:
        return (
            f"Google does not accept the credentials of {account} (401): "
            "renew the credentials file."
        )
    return f"Google rejects the request for the sheet ({status}: {message})."
