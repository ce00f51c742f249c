"""Errors are facts, and survive the way from process to process."""

from __future__ import annotations

import pickle

import grpc
import pytest

from cos_ray.domain import errors
from cos_ray.domain.errors import (
    Code,
    CosError,
    HandlerFailed,
    HistoryGap,
    KeyKnown,
    RevisionConflict,
    Status,
)
from cos_ray.domain.ids import EntityId, Offset, ReadSideId, Revision, Shard

SAMPLES: list[CosError] = [
    RevisionConflict(EntityId("e"), Revision(3)),
    KeyKnown(EntityId("e")),
    HandlerFailed(Status(Code.INVALID_ARGUMENT, "no", b"\x00")),
    HistoryGap(ReadSideId("r"), Shard(1), EntityId("e"), Offset(9)),
    errors.HistoryWentBack([Shard(1), Shard(2)]),
    errors.EventsDeleted(Offset(9)),
    errors.EntityIsErased(EntityId("a")),
    errors.Rejected(Code.NOT_FOUND, "no", b"\x00"),
    errors.CallFailed(Status(Code.NOT_FOUND, "no", b"\x00")),
    *(
        kind("why")
        for kind in (
            errors.ConfigurationError,
            errors.DeliveryFailed,
            errors.EntityLost,
            errors.EntitySilent,
            errors.NoRoom,
            errors.NotSharded,
            errors.EventRefused,
            errors.JournalUnavailable,
            errors.MailboxFull,
            errors.OutOfTime,
            errors.OutcomeUnknown,
            errors.ReplicasSilent,
            errors.StartFailed,
            errors.Withdrawn,
            errors.ReadSideUnavailable,
            errors.UnknownReadSide,
            errors.WrongShard,
        )
    ),
]


def named(error: CosError) -> str:
    return type(error).__name__


@pytest.mark.parametrize("error", [*SAMPLES, errors.ClaimLost(ReadSideId("r"), Shard(1))], ids=named)
def test_an_error_survives_pickling_with_its_facts(error: CosError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert copy.args == error.args
    assert vars(copy) == vars(error)


def test_the_pickled_errors_above_are_all_there_are() -> None:
    # Packages that other tests import have errors of their own.
    ours = {error for error in CosError.__subclasses__() if error.__module__ == CosError.__module__}
    assert {type(error) for error in SAMPLES} == ours


@pytest.mark.parametrize("error", SAMPLES, ids=named)
def test_an_error_says_what_it_means(error: CosError) -> None:
    assert (type(error).__doc__ or "").strip().endswith(".")


def test_codes_are_grpc_s() -> None:
    assert {code.name: code.value for code in Code} == {code.name: code.value[0] for code in grpc.StatusCode}


def test_a_rejection_has_a_code_that_rejects() -> None:
    assert errors.Rejected(Code(5)).code is Code.NOT_FOUND
    for wrong in (Code.OK, 99):
        with pytest.raises(ValueError, match=r"OK|99"):
            errors.Rejected(wrong)  # type: ignore[arg-type]


def test_a_failed_delivery_reads_as_its_reason() -> None:
    assert str(errors.DeliveryFailed("no answer", Code.UNAVAILABLE)) == "no answer"
