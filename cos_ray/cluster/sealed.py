"""
A function sent to another process without its modules being imported on the way.

An entity's process should start in a fraction of a second. It carries the recipe for a journal
or another entity it never cooks itself; sealed, that recipe costs it nothing.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class Sealed(Generic[_Result]):
    """A call's function and first arguments, opened only where it is called."""

    pickled: bytes

    def __call__(self, *arguments: Any) -> _Result:
        """Open it and call."""
        function: Callable[..., _Result] = pickle.loads(self.pickled)  # noqa: S301 - sealed by ourselves
        return function(*arguments)


def seal(function: Callable[..., _Result], *first_arguments: Any) -> Sealed[_Result]:
    """Seal an importable function together with its first arguments."""
    return Sealed(pickle.dumps(partial(function, *first_arguments)))
