"""
Pages as scripts: what they tell their reader to save, to run and to expect.

A code block takes part if a comment above it says how:

    <!-- file: NAME -->            is saved under that name
    <!-- run -->                   is run, and succeeds
    <!-- run: fails -->            is run, and does not
    <!-- run: until it prints -->  is run again and again until it prints what comes next
    <!-- keep running -->          is started, says a word, and is stopped at the end
    <!-- keep running: cos-ray --> is started and ready when its health service says so
    <!-- prints -->                is, exactly, what the command before it printed
"""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

_BLOCK = re.compile(r"^<!-- ([^:\n]+)(?:: ([^\n]+))? -->\n```\w*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Block:
    """One code block that takes part."""

    kind: str
    """The word before the colon: file, run, keep running or prints."""
    how: str
    """What comes after the colon, if anything."""
    text: str

    def commands(self) -> list[tuple[dict[str, str], list[str]]]:
        """Each command of a shell block: the variables set for it, and its words."""
        lines = self.text.replace("\\\n", " ").splitlines()
        return [_command(line) for line in lines if line.strip()]


def section(page: str, title: str) -> str:
    """The text below a page's heading, up to the next one of its rank."""
    parts = re.split(r"^## (.+)$", (ROOT / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))[title]


def blocks(text: str) -> list[Block]:
    """The blocks that take part, in order."""
    found = [Block(kind, how, code) for kind, how, code in _BLOCK.findall(text)]
    assert len(found) == text.count("<!--"), "a comment is not followed by a code block at once"
    return found


def _command(line: str) -> tuple[dict[str, str], list[str]]:
    words = shlex.split(line)
    variables = {}
    while re.match(r"[A-Z_0-9]+=", words[0]):
        name, _, value = words.pop(0).partition("=")
        variables[name] = value
    return variables, words
