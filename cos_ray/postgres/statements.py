"""The SQL of this package, by name; it lives in the files of `sql/`."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import NamedTuple

from typing_extensions import LiteralString

_FOLDER = files(__package__) / "sql"


class Migration(NamedTuple):
    """One step by which our part of the schema came to be."""

    number: int
    name: str
    script: LiteralString


@lru_cache
def statement(name: str) -> LiteralString:
    """The text of `sql/<name>.sql`."""
    # As good as a literal: it comes with the package.
    return (_FOLDER / f"{name}.sql").read_text(encoding="utf-8")


def migrations() -> tuple[Migration, ...]:
    """Our migrations in their order: `sql/migrations/<number>_<name>.sql`, whose numbers may have gaps."""
    names = sorted(file.name for file in (_FOLDER / "migrations").iterdir() if file.name.endswith(".sql"))
    found = []
    for name in names:
        number, _, rest = name.removesuffix(".sql").partition("_")
        found.append(Migration(int(number), rest, statement(f"migrations/{name.removesuffix('.sql')}")))
    return tuple(found)
