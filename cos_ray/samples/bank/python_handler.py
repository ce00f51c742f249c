"""
The write handler without a server: the rules as a class that the service runs by itself.

    COS_WRITE_SIDE_HANDLER=cos_ray.samples.bank.python_handler:BankAccounts cos-ray serve

Messages come unpacked and are packed by the service, by what the annotations say: `Account | None`
means that an account is None before its first event.
"""

from __future__ import annotations

from cos_ray import Code, CommandMeta, Meta, Rejected
from cos_ray.samples.bank.accounts import Command, Event, Refusal, handle_command, handle_event
from cos_ray.samples.bank.pb.bank.v1.bank_pb2 import Account


class BankAccounts:
    """Asks the rules. Made once in each process, it keeps nothing from call to call."""

    def handle_command(self, command: Command, prior_state: Account | None, meta: CommandMeta) -> list[Event]:
        """Which events does this command lead to?"""
        try:
            return handle_command(command, prior_state)
        except Refusal as refusal:
            raise Rejected(Code[refusal.code.name], refusal.reason) from refusal

    def handle_event(self, event: Event, prior_state: Account | None, meta: Meta) -> Account:
        """Which state does this event lead to?"""
        return handle_event(event, prior_state)
