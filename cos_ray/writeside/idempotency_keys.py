"""
Which idempotency keys an entity has had, as far as its process knows.

The first sight of a key must cost no question: so all keys of an entity are read once, with its
state when its first command with a key comes, and its own are added. What is not among them has
not been there; what is among them is looked up. Whether a key is new is decided by the journal,
when the command's events are appended: what another copy stored meanwhile is found out there.
"""

from __future__ import annotations

from collections.abc import Collection

from cos_ray.domain.ids import IdempotencyKey

MOST_READ = 50_000
"""An entity with more keys than that looks up each one it is shown: one question per such command."""

MOST_HELD = 2 * MOST_READ
"""How many are kept, at some 70 bytes each, before they are read anew without those that have expired."""


class IdempotencyKeys:
    """The keys of one entity."""

    __slots__ = ("_known", "_too_many")

    def __init__(self) -> None:
        # Their hashes: of two keys with one hash, the journal knows which it has.
        self._known: set[int] | None = None
        self._too_many = False

    @property
    def are_read(self) -> bool:
        """Whether there is nothing to be gained from reading them."""
        return self._known is not None or self._too_many

    @property
    def octets(self) -> int:
        """About how many bytes of memory they take."""
        return 70 * len(self._known) if self._known else 0

    def learn(self, keys: Collection[IdempotencyKey]) -> None:
        """These are all there are, or more than MOST_READ of them."""
        self._too_many = len(keys) > MOST_READ
        self._known = None if self._too_many else set(map(hash, keys))

    def is_new(self, key: IdempotencyKey) -> bool:
        """Whether the key is surely none of them; if not, the journal has to be asked."""
        return self._known is not None and hash(key) not in self._known

    def has(self, key: IdempotencyKey) -> bool:
        """Whether the key was one of them, unless it has expired since."""
        return self._known is not None and hash(key) in self._known

    def add(self, key: IdempotencyKey) -> None:
        """This key is in the journal from now on."""
        if self._known is not None:
            self._known.add(hash(key))
            if len(self._known) > MOST_HELD:
                self._known = None

    def forget(self) -> None:
        """Another copy may have added some."""
        self._known = None
        self._too_many = False
