"""What a command expects of its entity."""

from __future__ import annotations

from cos_ray.domain.errors import Code, Status
from cos_ray.domain.ids import Revision

ACTUAL_REVISION = "x-cos-actual-revision"
"""The trailing metadata that says where the entity is."""


def fault_of_revision(expected: Revision | None, actual: Revision) -> Status | None:
    """The status of a command that expected another revision; None when it expected this one, or none."""
    if expected is None or expected == actual:
        return None
    message = f"expected revision {expected}, actual {actual}"
    return Status(Code.ABORTED, message, trailers=((ACTUAL_REVISION, str(actual)),))
