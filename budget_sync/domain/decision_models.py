"""The bodies of approve and decline. Only the console sends them."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from budget_sync.domain.request_models import Body, CustomerId, Id, RequestId, Sentence, Version


class ApproveRequest(Body):
    """Approve a reservation that waits for it."""

    budget_id: Id
    request_id: RequestId
    if_version: Annotated[
        Version | None,
        Field(description="Approve only if the reservation still has this version."),
    ] = None
    reason: Annotated[Sentence | None, Field(description="For the audit log.")] = None
    customer_id: CustomerId = None


class DeclineRequest(Body):
    """Decline a request that its budget does not cover."""

    request_id: RequestId
    check_id: Annotated[
        Id | None,
        Field(description="Decline only if the request still waits because of this check."),
    ] = None
    reason: Annotated[Sentence, Field(description="For the audit log.")]
    customer_id: Id
