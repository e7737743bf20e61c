"""Email addresses. Pure."""

from __future__ import annotations

import re
from typing import Final

#: The longest address that the database stores.
MAX_EMAIL_CHARS: Final = 254

_EMAIL = re.compile(r"[^@\s]+@[^@\s]+")


def is_email(text: str) -> bool:
    """Whether a text can be an email address: two parts around an @, without spaces."""
    return len(text) <= MAX_EMAIL_CHARS and text.isprintable() and bool(_EMAIL.fullmatch(text))
