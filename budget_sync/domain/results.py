"""Replies of ledger calls, as JSON text, so that a stored or replayed reply is the same bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import simplejson

# `simplejson.dumps` would create an encoder for each call.
_ENCODER = simplejson.JSONEncoder(use_decimal=True, ensure_ascii=False)


def dumps(value: object) -> str:
    """JSON text. A Decimal becomes a number with exactly its digits."""
    text: str = _ENCODER.encode(value)
    return text


@dataclass(frozen=True, slots=True)
class Reply:
    """The result of a ledger call as JSON text.

    `replayed` is true if this is the stored reply of an earlier request. `code` is the decision
    of a check, else None.
    """

    text: str
    replayed: bool = False
    code: str | None = None

    @classmethod
    def of(cls, data: Mapping[str, object]) -> Reply:
        """A new reply with this data."""
        code = data.get("code")
        return cls(dumps(data), code=None if code is None else str(code))

    @property
    def data(self) -> dict[str, Any]:
        """The reply as Python values, with fractions as Decimal."""
        parsed: dict[str, Any] = json.loads(self.text, parse_float=Decimal)
        return parsed
