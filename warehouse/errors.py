"""What can go wrong with stored data. Messages name the thing, what was expected and the next act."""

from __future__ import annotations


class WarehouseError(Exception):
    """The warehouse cannot do what was asked."""


class NotInWarehouse(WarehouseError):
    """A dataset, version, row or tag that does not exist here."""


class BadQuery(WarehouseError):
    """A query that DuckDB does not understand, or that would do more than read."""


class DamagedPart(WarehouseError):
    """A part is missing, truncated or not what its manifest says."""


class Conflict(WarehouseError):
    """Another writer was first where only one may be."""
