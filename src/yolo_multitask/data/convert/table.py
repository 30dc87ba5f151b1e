"""Counts as text: one column a split, one row a count."""

from __future__ import annotations

from collections.abc import Collection, Mapping


def count_table(columns: Mapping[str, Mapping[str, int]], always: Collection[str] = ()) -> str:
    """Return a table of counts.

    Args:
        columns: Counts by title, by the name of the column; a title that a column lacks counts 0 there.
        always: Titles of rows that are shown even where they are 0 everywhere.
    """
    titles = dict.fromkeys(title for counts in columns.values() for title in counts)
    rows = [(title, [counts.get(title, 0) for counts in columns.values()]) for title in titles]
    rows = [(title, values) for title, values in rows if title in always or any(values)]
    left = max((len(title) for title, _ in rows), default=0)
    width = max(10, *(len(name) + 2 for name in columns))
    head = " " * left + "".join(f"{name:>{width}}" for name in columns)
    body = [f"{title:<{left}}" + "".join(f"{v:>{width}}" for v in values) for title, values in rows]
    return "\n".join([head.rstrip(), *body])
