"""
Tests that failed and then passed: noted in `.ci/flakes`, one name a line; the second time is a failure.

    python .ci/flakes.py names          print the names of the tests that failed last
    python .ci/flakes.py note FILE      note those that FILE names; exit 1 if one was noted before

A line is taken out of `.ci/flakes` by the commit that mends the test.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
NOTED = HERE / "flakes"
LAST_FAILED = HERE.parent / ".pytest_cache/v/cache/lastfailed"


def names() -> list[str]:
    """The tests that failed in pytest's last run."""
    return sorted(json.loads(LAST_FAILED.read_text())) if LAST_FAILED.exists() else []


def note(failed: list[str]) -> int:
    """Note tests that passed at their second try; how many of them had been noted before."""
    noted = NOTED.read_text().split("\n") if NOTED.exists() else []
    again = [name for name in failed if name in noted]
    NOTED.write_text("".join(f"{name}\n" for name in sorted({*filter(None, noted), *failed})))
    for name in failed:
        print(f"{'failed before, too' if name in again else 'noted'}: {name}")
    return len(again)


def main(arguments: list[str]) -> int:
    """Do what the arguments say; the exit code."""
    match arguments:
        case ["names"]:
            print("\n".join(names()))
        case ["note", file]:
            return min(1, note([line for line in Path(file).read_text().split("\n") if line]))
        case _:
            print(__doc__)
            return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
