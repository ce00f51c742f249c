"""Where docs/performance.md shows what was measured."""

from __future__ import annotations

from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs/performance.md"
BEGIN, END = "<!-- benchmarks -->\n", "<!-- end of benchmarks -->\n"


def put_in_place(text: str, file: Path = PAGE) -> None:
    """Replace what stands between the two marks. Raises ValueError if they are not there."""
    page = file.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    file.write_text(f"{before}{BEGIN}\n{text}\n\n{END}{after}", encoding="utf-8")
