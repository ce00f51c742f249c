"""
How the code is laid out, in numbers: files for a thousand lines, lines of imports, small modules, circles.

    python .ci/house.py            print the numbers
    python .ci/house.py --small    and the modules of under 40 lines with one importer at the most
"""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "cos_ray"
SMALL = 40


def modules() -> dict[str, Path]:
    """Every module by its dotted name, but those that are generated."""
    files = [file for file in (ROOT / PACKAGE).rglob("*.py") if "pb" not in file.relative_to(ROOT).parts]
    return {".".join(file.relative_to(ROOT).with_suffix("").parts): file for file in files}


def is_code(line: str) -> bool:
    """Whether a line is neither blank nor a comment."""
    return bool(line.strip()) and not line.strip().startswith("#")


def import_lines(tree: ast.Module) -> int:
    """Lines that imports take."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    return sum((node.end_lineno or node.lineno) - node.lineno + 1 for node in found)


def imported(tree: ast.Module, names: set[str]) -> set[str]:
    """Which modules of ours are imported while this one is; not by functions, nor for types alone."""
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in names else node.module)
    return found & names


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Ways from a module back to itself."""
    found, done = [], set()

    def walk(name: str, way: list[str]) -> None:
        if name in way:
            found.append([*way[way.index(name) :], name])
        elif name not in done:
            for other in graph[name]:
                walk(other, [*way, name])
            done.add(name)

    for name in graph:
        walk(name, [])
    return found


def main(arguments: list[str]) -> int:
    """Print the numbers; 1 if modules import each other in a circle."""
    files = modules()
    texts = {name: file.read_text(encoding="utf-8") for name, file in files.items()}
    trees = {name: ast.parse(text) for name, text in texts.items()}
    code = {name: sum(map(is_code, text.splitlines())) for name, text in texts.items()}
    graph = {name: imported(tree, set(files)) for name, tree in trees.items()}
    importers: dict[str, set[str]] = defaultdict(set)
    for name, others in graph.items():
        for other in others:
            importers[other].add(name)
    small = sorted(
        name
        for name in files
        if not name.endswith(("__init__", "__main__"))
        and len(texts[name].splitlines()) < SMALL
        and len(importers[name]) <= 1
    )
    lines = sum(code.values())
    counted = [name for name in files if not name.endswith("__init__")]
    print(f"{len(counted)} modules, {lines} lines of code")
    print(f"files per 1,000 lines: {1000 * len(counted) / lines:.1f}")
    print(f"lines of imports: {100 * sum(map(import_lines, trees.values())) / lines:.1f} %")
    print(f"modules of under {SMALL} lines with one importer at the most: {len(small)}")
    print(f"longest file: {max((len(text.splitlines()), name) for name, text in texts.items())}")
    found = circles(graph)
    print(f"circles: {len(found)}", *(" -> ".join(circle) for circle in found))
    if "--small" in arguments:
        print(*small, sep="\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
