"""Forgetting for good: `cos_ray.v1.ErasureService`."""

from __future__ import annotations

import logging
import time
import uuid
from typing import Protocol

from cos_ray.domain.erasure import ERASE, IS_ERASED
from cos_ray.domain.errors import Code, Status
from cos_ray.domain.ids import CommandId, EntityId, fault_of_entity_id
from cos_ray.domain.messages import Command, Refused
from cos_ray.ingress.command_policy import CommandPolicy
from cos_ray.ingress.history_methods import Refusal, answered, invalid
from cos_ray.ingress.status import ReplyContext
from cos_ray.ports import EntityGateway, Eraser
from cos_ray.protocol.codec import date_to_pb
from cos_ray.protocol.pb.cos_ray.v1.erasure_pb2 import EraseEntityRequest, EraseEntityResponse

logger = logging.getLogger(__name__)

NOT_ENABLED = Status(Code.UNIMPLEMENTED, "Erasure is not enabled; see COS_ERASURE_ENABLED")

LONGEST_REASON = 1_000


class ErasureParts(Protocol):
    """What these methods work with."""

    gateway: EntityGateway
    policy: CommandPolicy
    eraser: Eraser | None
    """None: it is switched off."""


class ErasureMethods:
    """A part of `Ingress`."""

    _parts: ErasureParts

    async def EraseEntity(
        self, request: EraseEntityRequest, grpc_context: ReplyContext
    ) -> EraseEntityResponse:
        """Remove everything an entity's events and states say, for good."""
        caller = getattr(grpc_context, "caller", None)
        return await answered(grpc_context, EraseEntityResponse, lambda: self._erase(request, caller))

    async def _erase(self, request: EraseEntityRequest, caller: str | None) -> EraseEntityResponse:
        eraser = self._parts.eraser
        if eraser is None:
            raise Refusal(NOT_ENABLED)
        fault = fault_of_entity_id(request.entity_id)
        if fault is not None:
            raise invalid(fault)
        if len(request.reason) > LONGEST_REASON or "\0" in request.reason:
            raise invalid(f"reason is longer than {LONGEST_REASON} characters, or contains a NUL character")
        entity_id = EntityId(request.entity_id)
        # Also of one that was erased before: whatever may have come back since is removed again.
        await self._bring_to_its_end(entity_id)
        erasure = await eraser.remove(entity_id, request.reason, caller and caller[:255])
        logger.warning("an entity was erased", extra={"caller": caller, "events": erasure.events})
        assert erasure.erased_at is not None
        return EraseEntityResponse(erased_at=date_to_pb(erasure.erased_at), events=erasure.events)

    async def _bring_to_its_end(self, entity_id: EntityId) -> None:
        """Let the entity come to its last event. Raises Refusal."""
        command = Command(
            entity_id=entity_id,
            payload=ERASE,
            command_id=CommandId(f"erasure-{uuid.uuid4().hex}"),
            budget=self._parts.policy.command_timeout,
            sent_at=time.time(),
        )
        reply = await self._parts.gateway.process(command)
        # It may have come to it before, and what comes after was interrupted.
        if isinstance(reply, Refused) and reply.status != IS_ERASED:
            raise Refusal(reply.status)
