"""
A client that knows this project only by its protos: run in a process of its own, with the code
that protoc made of them on its path and nothing of ours.

    python outside_client.py HOST:PORT ENTITY_ID
"""

import sys

import grpc
from bank.v1 import bank_pb2
from chief_of_state.v1 import service_pb2, service_pb2_grpc
from google.protobuf.any_pb2 import Any


def packed(message):
    any_ = Any()
    any_.Pack(message)
    return any_


def main(address, entity_id):
    assert not any(name.startswith(("cos_ray", "ray")) for name in sys.modules)
    service = service_pb2_grpc.ChiefOfStateServiceStub(grpc.insecure_channel(address))
    for command in (bank_pb2.OpenAccount(owner="Outside", opening_balance=500), bank_pb2.Deposit(amount=250)):
        reply = service.ProcessCommand(
            service_pb2.ProcessCommandRequest(entity_id=entity_id, command=packed(command)), timeout=20
        )
    account = bank_pb2.Account()
    assert reply.state.Unpack(account)
    print(account.owner, account.balance, reply.meta.revision_number, reply.meta.entity_id)


if __name__ == "__main__":
    main(*sys.argv[1:])
