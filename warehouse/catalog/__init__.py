"""What a warehouse holds, as tables: a disposable index over the records, and SQL over it."""

from warehouse.catalog.asking import connection, open_catalog, tidy
from warehouse.catalog.catalog import Catalog

__all__ = ["Catalog", "connection", "open_catalog", "tidy"]
