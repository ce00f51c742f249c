"""What operators ask about the service as a whole: a mixin of `Ingress`, for Serve wants one class."""

from __future__ import annotations

import logging

from cos_ray.domain.errors import Code, EntityLost, NotSharded, Status
from cos_ray.ingress.status import FAILED, ReplyContext, refuse
from cos_ray.ports import Operations
from cos_ray.protocol.pb.cos_ray.v1 import operations_pb2 as pb

logger = logging.getLogger(__name__)

OPERATIONS_SERVICE = "cos_ray.v1.OperationsService"
OPERATIONS_SERVICER_FUNCTION = (
    "cos_ray.protocol.pb.cos_ray.v1.operations_pb2_grpc.add_OperationsServiceServicer_to_server"
)

_NOT_SHARDED = Status(Code.FAILED_PRECONDITION, "there are no shard hosts: COS_ENTITY_PLACEMENT is dedicated")
_NO_COORDINATOR = Status(Code.UNAVAILABLE, "the coordinator of the shard hosts does not answer; try again")


class OperationsMethods:
    """The RPCs about the service as a whole."""

    def _operations(self) -> Operations:
        raise NotImplementedError

    async def GetServiceStatus(
        self, request: pb.GetServiceStatusRequest, grpc_context: ReplyContext
    ) -> pb.GetServiceStatusResponse:
        """Every part that answers in time."""
        try:
            status = await self._operations().status()
        except Exception:
            logger.exception("a request ended in an unforeseen error")
            refuse(grpc_context, FAILED)
            return pb.GetServiceStatusResponse()
        return pb.GetServiceStatusResponse(
            service=status.service,
            placement=status.placement,
            nodes=[
                pb.NodeStatus(address=node.address, cpus=node.cpus, live_entities=node.entities)
                for node in status.nodes
            ],
            ingress=[
                pb.IngressStatus(
                    node=replica.node, pid=replica.pid, in_hand=replica.in_hand, commands=replica.commands
                )
                for replica in status.ingress
            ],
            shard_hosts=[
                pb.ShardHostStatus(
                    host=host.host,
                    node=host.node,
                    pid=host.pid,
                    shards=host.shards,
                    live_entities=host.entities,
                    memory_bytes=host.octets,
                    in_progress=host.in_progress,
                    commands=host.commands,
                    activations=host.activations,
                    passivations=host.passivations,
                    own_processes=host.own_processes,
                    entities_with_process=host.entities_with_process,
                    shared=[pb.SharedEntities(why=why.value, entities=count) for why, count in host.shared],
                    promotions=host.promotions,
                )
                for host in status.shard_hosts
            ],
            live_entities=status.entities,
            silent=status.silent,
        )

    async def ResizeShardHosts(
        self, request: pb.ResizeShardHostsRequest, grpc_context: ReplyContext
    ) -> pb.ResizeShardHostsResponse:
        """Have so many shard hosts from now on."""
        try:
            return pb.ResizeShardHostsResponse(hosts=await self._operations().resize(request.hosts or None))
        except NotSharded:
            refuse(grpc_context, _NOT_SHARDED)
        except EntityLost:
            refuse(grpc_context, _NO_COORDINATOR)
        except Exception:
            logger.exception("a request ended in an unforeseen error")
            refuse(grpc_context, FAILED)
        return pb.ResizeShardHostsResponse()
