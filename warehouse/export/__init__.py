"""Ways out of a warehouse: what other systems read. Each writes a copy; the warehouse stays the truth.

`openlineage` tells runs, steps and versions as OpenLineage events. `delta` writes one dataset version as one version of
a Delta table.
"""
