"""The stored reading of a source: how its sheet is read, as confirmed by a person. Pure.

A heading is written as it is in the sheet, or "@3" for a column without one (an index from 0). The
texts of a header of several rows are joined by " / ".
"""

from __future__ import annotations

import json
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic.alias_generators import to_camel

Heading = Annotated[str, Field(min_length=1, max_length=4000)]


class ReadingError(ValueError):
    """JSON that is not a reading; the text says what is wrong with it."""


class _Part(BaseModel):
    """A part of a reading: immutable, strict, and without unknown keys."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="forbid",
        alias_generator=to_camel,
        populate_by_name=True,
    )


class CsvFormat(_Part):
    """How the bytes of a CSV file are read. `encoding` is the name of a Python codec."""

    delimiter: Literal[",", ";", "\t", "|"] = ","
    encoding: Annotated[str, Field(pattern=r"^[a-z0-9_-]{1,30}$")] = "utf-8"
    sep_line: bool = False


class Header(_Part):
    """The number of header rows. Their place is found again in each sync run."""

    rows: Annotated[int, Field(ge=1, le=4)] = 1


class Department(_Part):
    """The department column. `fill` says where a blank department comes from."""

    column: Heading
    fill: Literal["no", "down", "section"] = "no"
    code: Literal["keep", "strip"] = "keep"


class _Settled(_Part):
    """Ambiguities of periods that the sheet or a person has settled."""

    year: Annotated[str, Field(pattern=r"^(19|20)[0-9]{2}$")] | None = None
    dash: Literal["month", "span"] | None = None
    ddmon: Literal["year", "day"] | None = None
    tri: Literal["quarter", "third"] | None = None
    mdy: Literal["mdy", "dmy"] | None = None
    dates: Literal["month", "quarter", "year"] | None = None


class PeriodColumn(_Settled):
    """A period column; with `part`, a year column and a second one with its quarter or month."""

    column: Heading
    part: Heading | None = None
    part_kind: Literal["quarter", "fiscal", "calendar"] | None = None

    @model_validator(mode="after")
    def _require_part_kind(self) -> Self:
        if (self.part is None) != (self.part_kind is None):
            raise ValueError("part and partKind belong together")
        return self


class PeriodConstant(_Settled):
    """One period for the whole sheet."""

    constant: Heading


class PeriodHeadings(_Settled):
    """A wide table: amount columns by heading, each with its period as text.

    `ignored` are headings that hold a period and are not budgets.
    """

    headings: dict[Heading, Heading]
    ignored: tuple[Heading, ...] = ()


Period = PeriodColumn | PeriodConstant | PeriodHeadings


class Amount(_Part):
    """The amount columns: one, or the keys of the period headings."""

    columns: tuple[Heading, ...] = Field(min_length=1)


class CurrencyColumn(_Part):
    """A currency column. `words` are folded texts that are not codes, with their codes."""

    column: Heading
    words: dict[str, Annotated[str, Field(pattern=r"^[A-Z]{3}$")]] = {}


class CurrencyConstant(_Part):
    """The currency of all amounts."""

    constant: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]


class Filter(_Part):
    """A column that says which rows count: those with a value of `kept`. Values are folded."""

    column: Heading
    kept: tuple[str, ...] = Field(alias="in")
    left_out: tuple[str, ...] = Field(default=(), alias="out")


class Totals(_Part):
    """Folded names that need more than the words: of subtotals, and of departments."""

    names: tuple[str, ...] = ()
    departments: tuple[str, ...] = ()


class Marks(_Part):
    """The decimal mark and the mark between groups of digits."""

    decimal: Literal[".", ","] = "."
    group: Literal[".", ",", " ", "'"] = ","

    @model_validator(mode="after")
    def _require_difference(self) -> Self:
        if self.decimal == self.group:
            raise ValueError("decimal and group must differ")
        return self


class Reading(_Part):
    """How a sheet is read. `blanks` are folded texts that mean "no amount".

    `file` is None for a Google Sheet and an Excel file, and for a CSV source of an earlier version
    until its first sync run.
    """

    version: Literal[1] = 1
    file: CsvFormat | None = None
    header: Header = Header()
    department: Department
    period: Period
    amount: Amount
    id: Heading | None = None
    limit: Heading | None = None
    owner: Heading | None = None
    currency: CurrencyColumn | CurrencyConstant | None = None
    sum: bool = False
    keep: tuple[Filter, ...] = ()
    totals: Totals = Totals()
    unit: Literal[1, 1000, 1_000_000] = 1
    sign: Literal["as is", "negate"] = "as is"
    marks: Marks = Marks()
    blanks: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _require_matching_amounts(self) -> Self:
        wide = isinstance(self.period, PeriodHeadings)
        if isinstance(self.period, PeriodHeadings) and set(self.amount.columns) != set(
            self.period.headings
        ):
            raise ValueError("amount.columns must be the keys of period.headings")
        if not wide and len(self.amount.columns) != 1:
            raise ValueError("amount.columns must have one heading")
        return self

    def to_json(self) -> dict[str, object]:
        """As a JSON object, without the keys that are not set."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    def to_text(self) -> str:
        """As JSON text, for the database and the audit log."""
        return json.dumps(self.to_json(), ensure_ascii=False)

    @classmethod
    def from_text(cls, text: str) -> Reading:
        """The reading in a JSON text. Raises ReadingError with everything that is wrong."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            problems = "; ".join(
                f"{'.'.join(map(str, each['loc'])) or 'reading'}: {each['msg']}"
                for each in error.errors(include_url=False, include_context=False)
            )
            raise ReadingError(f"This is not a reading: {problems}.") from None
