"""A folder of Parquet that knows where every row came from.

Files are the truth, DuckDB is a disposable index over them. This package knows nothing of recipes or models: it stores
immutable parts, commits dataset versions by creating one manifest that must not exist yet, and answers questions about
lineage. It imports no other package of this project.

    from warehouse import Warehouse
    rows = Warehouse("warehouse-data").dataset("smollm-gym/reasoning").scan().collect()
"""

from warehouse.dataset import Dataset
from warehouse.errors import NotInWarehouse, WarehouseError
from warehouse.store import Warehouse

__all__ = ["Dataset", "NotInWarehouse", "Warehouse", "WarehouseError"]
