"""Where a row comes from, what came of it, why it is or is not in a dataset; and what trained a checkpoint."""

from warehouse.lineage.rows import Finding, Hop, trace_down, trace_up, why

__all__ = ["Finding", "Hop", "trace_down", "trace_up", "why"]
