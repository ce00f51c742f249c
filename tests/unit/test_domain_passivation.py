"""Who leaves memory first, and where there is room."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cos_ray.domain.ids import EntityId
from cos_ray.domain.passivation import (
    FEWEST,
    PROCESS_OCTETS,
    NodeId,
    default_bound,
    least_recently_used,
    resting_since,
    roomiest,
)

A, B, C = map(EntityId, "abc")
N1, N2, N3 = map(NodeId, ("n1", "n2", "n3"))


def test_three_quarters_of_a_nodes_memory_are_for_entities() -> None:
    assert default_bound(100 * PROCESS_OCTETS) == 75


def test_even_the_smallest_node_holds_a_few() -> None:
    assert default_bound(0) == default_bound(PROCESS_OCTETS) == FEWEST


def test_those_who_rest_are_named_longest_first() -> None:
    assert resting_since({A: 5.0, B: 1.0, C: 9.0}, 5.0) == [B, A]


def test_the_least_recently_used_goes_first_and_the_spared_stay() -> None:
    assert least_recently_used({A: 5.0, B: 1.0, C: 9.0}, {B}) == [A, C]


def test_the_emptiest_node_by_share_is_the_roomiest() -> None:
    assert roomiest({N1: 1, N2: 3}, {N1: 2, N2: 10}) == N2


def test_a_full_node_has_no_room_nor_has_one_that_is_gone() -> None:
    assert roomiest({N1: 2, N2: 10}, {N1: 2, N2: 10}) is None
    assert roomiest({N3: 0}, {}) is None


@given(
    st.dictionaries(st.sampled_from([N1, N2, N3]), st.integers(0, 5)),
    st.dictionaries(st.sampled_from([N1, N2, N3]), st.integers(1, 5)),
)
def test_whoever_is_chosen_has_room_and_no_one_has_more(
    live: dict[NodeId, int], bounds: dict[NodeId, int]
) -> None:
    chosen = roomiest(live, bounds)
    shares = {node: live.get(node, 0) / bound for node, bound in bounds.items()}
    if chosen is None:
        assert all(share >= 1 for share in shares.values())
    else:
        assert shares[chosen] < 1
        assert shares[chosen] == min(shares.values())
