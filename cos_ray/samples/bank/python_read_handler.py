"""
The read handler without a server: a class that the service runs in the read side's own process.

    readSideId: balances
    handler: cos_ray.samples.bank.python_read_handler:Balances

The table's file is named by the variable BANK_BALANCES. Many events come in one call, and are
written in one transaction: for a table that has much to catch up with, that is what takes time.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from cos_ray import Delivered, DeliveryMeta
from cos_ray.samples.bank.accounts import Event
from cos_ray.samples.bank.pb.bank.v1.bank_pb2 import Account
from cos_ray.samples.bank.read_handler import Balance, BalanceTable


class Balances:
    """Keeps the table of balances. Returning confirms the events; whatever is raised does not."""

    def __init__(self) -> None:
        self._table = BalanceTable(Path(os.environ.get("BANK_BALANCES", "balances.db")))

    def handle(self, event: Event, state: Account, meta: DeliveryMeta) -> None:
        """Handle one event."""
        self._table.put(_row(state, meta))

    def handle_many(self, deliveries: Sequence[Delivered]) -> None:
        """Handle all of these or none; those of one account come in their order."""
        self._table.put_all(_row(each.state, each.meta) for each in deliveries)


def _row(account: Account, meta: DeliveryMeta) -> Balance:
    return Balance(meta.entity_id, account.owner, account.balance, account.is_open, meta.revision)
