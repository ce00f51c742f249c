"""Up to where the journal is complete, whatever the order of commits."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from cos_ray.domain.ids import Offset, Shard
from cos_ray.domain.watermark import JournalHead, Watermark


def head(newest: int, **writing: str) -> JournalHead:
    return JournalHead(Offset(newest), {Shard(int(k[1:])): v for k, v in writing.items()})


def test_with_no_one_writing_it_is_the_newest_offset() -> None:
    assert Watermark().after(head(7)).complete == 7


def test_an_offset_given_and_not_committed_holds_it_back_until_it_is() -> None:
    mark = Watermark().after(head(7))
    mark = mark.after(head(9, s1="a"))
    assert (mark.complete, mark.newest) == (7, 9)
    assert mark.after(head(9, s1="a")).complete == 7
    assert mark.after(head(9)).complete == 9


def test_a_shard_that_is_always_written_to_holds_it_back_by_one_look() -> None:
    mark = Watermark().after(head(7))
    for number in range(8, 20):
        mark = mark.after(head(number, s1=f"transaction {number}"))
        assert mark.complete == number - 1


def test_at_first_nothing_is_known_of_a_shard_in_use() -> None:
    mark = Watermark().after(head(9, s1="a"))
    assert mark.complete == 0
    assert mark.after(head(9, s1="b")).complete == 9


@given(st.randoms(use_true_random=False))
def test_what_is_read_up_to_it_is_complete_whatever_the_order_of_commits(rng: random.Random) -> None:
    last, commits = 0, 0
    writing: dict[Shard, tuple[str, list[int]]] = {}
    visible: set[int] = set()
    mark = Watermark()
    told: set[int] = set()
    for _ in range(rng.randrange(5, 80)):
        for _ in range(rng.randrange(4)):
            shard = Shard(rng.randrange(3))
            if shard not in writing:
                commits += 1
                writing[shard] = (str(commits), [])
            elif rng.random() < 0.5:
                last += 1
                writing[shard][1].append(last)
            else:
                visible.update(writing.pop(shard)[1])
        # What the look at the locks sees may be later than what it sees of the journal.
        newest = Offset(max(visible, default=0))
        if rng.random() < 0.5 and writing:
            visible.update(writing.pop(rng.choice(sorted(writing)))[1])
        before = mark.complete
        mark = mark.after(JournalHead(newest, {shard: name for shard, (name, _) in writing.items()}))
        told |= {offset for offset in visible if before < offset <= mark.complete}
        # Nothing that is still to come lies below.
        assert all(offset > mark.complete for _, offsets in writing.values() for offset in offsets)
        assert told == {offset for offset in visible if offset <= mark.complete}
