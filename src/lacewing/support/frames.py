"""Rows of results as pandas data frames. Pandas is no dependency: it is imported only where a frame is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from lacewing.errors import UsageError, did_you_mean

Rows = Sequence[Mapping[str, Any]]


def data_frame(rows: Rows) -> Any:
    """The rows as a ``pandas.DataFrame``. Raises `UsageError` where pandas is not installed."""
    try:
        pandas = import_module("pandas")
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "pandas":
            raise
        raise UsageError("A data frame needs the package pandas: pip install pandas.") from None
    return pandas.DataFrame(list(rows))


def chosen(tables: Mapping[str, Rows], of: str) -> Rows:
    """The rows under that name. Raises `UsageError` where there are none of it."""
    if not isinstance(of, str) or of not in tables:
        raise UsageError(f"of = {of!r}: there is no such table: {did_you_mean(str(of), tables)}")
    return tables[of]
