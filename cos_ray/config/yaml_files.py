"""YAML in which a key that stands twice in one mapping is a fault: elsewhere the last one wins, silently."""

from __future__ import annotations

from typing import Any

import yaml


class _Unambiguous:
    """A loader whose mappings have each key once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:
        """Raises ConstructorError, with both lines, for a key that is set twice."""
        lines: dict[str, int] = {}
        for key, _ in getattr(node, "value", ()):
            if not isinstance(key, yaml.ScalarNode):
                continue
            line = key.start_mark.line + 1
            if key.value in lines:
                problem = f"{key.value} is set twice, first in line {lines[key.value]}"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            lines[key.value] = line
        return super().construct_mapping(node, deep)  # type: ignore[misc]


class SafeLoader(_Unambiguous, yaml.SafeLoader):
    """Numbers, flags and texts as YAML has them."""


class TextLoader(_Unambiguous, yaml.BaseLoader):
    """Every value is the text it is: no octal ports, no "off" for False. Only `null` and `~` are None."""

    def construct_scalar(self, node: yaml.ScalarNode) -> Any:
        """The text."""
        return None if is_null(node) else super().construct_scalar(node)


def is_null(node: yaml.ScalarNode) -> bool:
    """Whether a value is written as none."""
    return node.style is None and node.value in ("~", "null", "Null", "NULL")
