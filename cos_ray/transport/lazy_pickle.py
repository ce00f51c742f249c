"""
A function sent to another process without its modules being imported on the way.

An entity's process should start in a fraction of a second. It is handed builders that it only passes on; a
builder that is pickled lazily imports nothing until it is called.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

_Result = TypeVar("_Result")


@dataclass(frozen=True, slots=True)
class LazyPickle(Generic[_Result]):
    """A call's function and first arguments, opened only where it is called."""

    pickled: bytes

    def __call__(self, *arguments: Any) -> _Result:
        """Open it and call."""
        function: Callable[..., _Result] = pickle.loads(self.pickled)  # noqa: S301 - sealed by ourselves
        return function(*arguments)


def pickle_lazily(function: Callable[..., _Result], *first_arguments: Any) -> LazyPickle[_Result]:
    """Seal an importable function together with its first arguments."""
    return LazyPickle(pickle.dumps(partial(function, *first_arguments)))
