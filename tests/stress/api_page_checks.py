"""A check of ours that schemathesis makes of every answer: a refusal's code is among those that the page names for it."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.check
def code_is_on_the_page(ctx: Any, response: Any, case: Any) -> None:
    """The code of a refusal stands on the page, with that call and status."""
    told = case.operation.definition.raw["responses"].get(str(response.status_code))
    if told is None or not response.headers.get("content-type", [""])[0].startswith(
        "application/json"
    ):
        return
    data = response.json()
    if data.get("success") is False:
        examples = told["content"]["application/json"]["examples"].values()
        named = {example["value"].get("code") for example in examples}
        assert data["code"] in named, f"{data['code']} is not among {sorted(filter(None, named))}"
