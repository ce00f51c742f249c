"""Pages that end for their bytes, as the real journal's do."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from cos_ray.domain.messages import EventEnvelope, JournaledEvent
from cos_ray.domain.pages import PAGE_OCTETS, Page
from cos_ray.domain.read_sides import DeadLetter

_Item = TypeVar("_Item", bound=EventEnvelope | JournaledEvent | DeadLetter)


def page_of(items: Iterable[_Item], limit: int) -> Page[_Item]:
    """The first of them, so many or so many bytes; one, however large."""
    page: Page[_Item] = Page()
    octets = 0
    for item in items:
        if len(page) == limit or octets >= PAGE_OCTETS:
            page.has_more = True
            break
        page.append(item)
        envelope = item if isinstance(item, EventEnvelope) else item.envelope
        octets += len(envelope.event) + len(envelope.resulting_state)
    return page
