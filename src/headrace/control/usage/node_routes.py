"""`POST /v1/node/traffic`: what nodes tell of the bytes they moved."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from headrace.control.accelerations.documents import Count
from headrace.control.nodes.identity import OfNode
from headrace.control.requests import Control, Guarded
from headrace.control.texts import SoughtId
from headrace.control.usage import traffic

router = APIRouter(prefix="/v1/node", tags=["nodes"], route_class=Guarded)

_AT_ONCE = 500


class Moved(BaseModel):
    """Bytes of a volume that a node has moved since its epoch began: sums, which never shrink."""

    model_config = ConfigDict(extra="forbid")

    volume: Annotated[SoughtId, Field(description="Its id, as in what the node should do.")]
    origin_bytes: Annotated[Count, Field(description="Received from the bucket.")] = 0
    served_bytes: Annotated[Count, Field(description="That reads were answered with.")] = 0
    opened_bytes: Annotated[Count, Field(description="Of complete files, at each opening to be read without the node.")] = 0

    def told(self) -> traffic.Told:
        return traffic.Told(self.volume, self.origin_bytes, self.served_bytes, self.opened_bytes)


class Traffic(BaseModel):
    """What a node has moved since an epoch began."""

    model_config = ConfigDict(extra="forbid")

    epoch: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$", description="Another one, drawn at random, whenever the sums begin anew.")]
    volumes: Annotated[list[Moved], Field(max_length=_AT_ONCE)]


@router.post("/traffic", operation_id="tell_traffic", status_code=204)
async def tell_traffic(body: Traffic, control: Control, identity: OfNode) -> None:
    """Counts what a node has moved since it told last. Told again, or late, it counts nothing twice; what got lost comes with the next.

    Volumes that are not accelerated in the node's region, or no longer there, are left out.
    """
    if not body.volumes:
        return
    async with control.database.writing() as session:
        await traffic.tell(session, control.clock.now(), identity, body.epoch, [one.told() for one in body.volumes])
