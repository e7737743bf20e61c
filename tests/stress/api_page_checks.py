"""A schemathesis check: an error's code is one that the OpenAPI document lists."""

from __future__ import annotations

from typing import Any

import schemathesis


@schemathesis.check
def code_is_on_the_page(ctx: Any, response: Any, case: Any) -> None:
    """The error code is among the document's examples for this call and status."""
    documented = case.operation.definition.raw["responses"].get(str(response.status_code))
    if documented is None or not response.headers.get("content-type", [""])[0].startswith(
        "application/json"
    ):
        return
    data = response.json()
    if data.get("success") is False:
        examples = documented["content"]["application/json"]["examples"].values()
        named = {example["value"].get("code") for example in examples}
        assert data["code"] in named, f"{data['code']} is not among {sorted(filter(None, named))}"
