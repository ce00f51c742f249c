"""How large a page may be, as the wire shows itself."""

from __future__ import annotations

from cos_ray.domain.pages import LONGEST_TIME, PAGE_OCTETS, USUAL_TIME, PageSize


def shrunk(times: int) -> PageSize:
    size = PageSize()
    for _ in range(times):
        size.ran_out_of_time()
    return size


def test_it_shrinks_to_one_row_which_is_then_given_more_and_more_time():
    seen = []
    size = PageSize()
    for _ in range(8):
        seen.append((size.octets, size.time))
        size.ran_out_of_time()
    assert seen[0] == (PAGE_OCTETS, USUAL_TIME)
    octets = [octets for octets, _ in seen]
    assert octets == sorted(octets, reverse=True)
    assert size.is_one_row
    assert (size.rows(1_000), size.time) == (1, LONGEST_TIME)


def test_it_looks_at_fewer_rows_too():
    assert shrunk(0).rows(200) == 200
    assert shrunk(1).rows(200) == 25


def test_it_grows_again_where_pages_are_quick_and_gives_no_more_time_than_usual():
    size = shrunk(6)
    size.took(0.1)
    assert not size.is_one_row
    assert size.time == USUAL_TIME
    for _ in range(20):
        size.took(0.1)
    assert size.octets == PAGE_OCTETS


def test_what_only_just_came_makes_the_next_one_smaller_and_one_row_stays_one():
    size = PageSize()
    size.took(4)
    assert size.octets == PAGE_OCTETS // 2
    size = shrunk(5)
    time = size.time
    size.took(20)
    assert size.is_one_row
    assert size.time == time
