"""What a verb answers: one JSON text, so that a logged, stored or replayed reply is the first one to the byte."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import simplejson

# Kept, since `simplejson.dumps` makes one for each text.
_ENCODER = simplejson.JSONEncoder(use_decimal=True, ensure_ascii=False)


def dumps(value: object) -> str:
    """JSON text; a Decimal becomes a number with its own digits."""
    text: str = _ENCODER.encode(value)
    return text


@dataclass(frozen=True, slots=True)
class Reply:
    """A verb's result as JSON text; `replayed` says that it is the answer to an earlier request, given again, `code` is a check's decision."""

    text: str
    replayed: bool = False
    code: str | None = None

    @classmethod
    def of(cls, data: Mapping[str, object]) -> Reply:
        """A fresh reply."""
        code = data.get("code")
        return cls(dumps(data), code=None if code is None else str(code))

    @property
    def data(self) -> dict[str, Any]:
        """The reply as Python values, fractions as Decimal."""
        parsed: dict[str, Any] = json.loads(self.text, parse_float=Decimal)
        return parsed
