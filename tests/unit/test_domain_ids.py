"""What makes an entity id usable."""

from __future__ import annotations

import pytest

from cos_ray.domain.ids import fault_of_entity_id


@pytest.mark.parametrize("entity_id", ["e", "a b/c", "é" * 255, "😀" * 255, "x" * 255, " "])
def test_any_text_up_to_255_characters_will_do(entity_id: str) -> None:
    assert fault_of_entity_id(entity_id) is None


@pytest.mark.parametrize(
    ("entity_id", "fault"),
    [
        ("", "empty entity ID"),
        ("x" * 256, "entity ID is longer than 255 characters"),
        ("a\0b", "entity ID contains a NUL character"),
    ],
)
def test_what_the_journal_cannot_keep_is_refused(entity_id: str, fault: str) -> None:
    assert fault_of_entity_id(entity_id) == fault
