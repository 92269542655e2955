"""The verbs of the `factory` command that read and keep a warehouse: ask, trace, compare, tag, delete, clean, check.

Thin as the rest of the command: parse, call, print. `factory.cli` registers them.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Root = Annotated[str, typer.Option("--warehouse", "-w", help="The warehouse: a folder, or s3://bucket/prefix.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
RowId = Annotated[int, typer.Argument(help="A row_id, as every dataset shows it.")]
Ref = Annotated[str, typer.Argument(help="A dataset: name, name@3 or name@tag.")]
Version = Annotated[str, typer.Argument(metavar="NAME@N", help="One dataset version: name@3.")]
DEFAULT = "warehouse-data"


def sql(query: Annotated[str, typer.Argument(help='One SELECT, such as: SELECT * FROM "pico/reasoning"')],
        warehouse: Root = DEFAULT, json: AsJson = False,
        csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
        parquet: Annotated[Path | None, typer.Option(help="Write the result to this Parquet file.")] = None) -> None:
    """Ask the warehouse in SQL (read-only).

    Example: factory sql "SELECT ref, row_count FROM datasets"
    """
    from factory import terminal_data
    from warehouse import Warehouse

    opened = Warehouse(warehouse)
    terminal_data.show_frame(opened.sql(query), json=json, csv=csv, parquet=parquet)
    terminal_data.warn_of_damage(opened)


def trace(what: Annotated[str, typer.Argument(metavar="ROW_OR_CHECKPOINT", help="A row_id, as every dataset shows it, "
                                              "or a checkpoint: name or name@3.")], warehouse: Root = DEFAULT,
          down: Annotated[bool, typer.Option("--down", help="Descendants in place of ancestors.")] = False,
          json: AsJson = False) -> None:
    """Show where a row comes from, up to its source record and to what trained the checkpoint that wrote it; or what
    trained a checkpoint.

    Example: factory trace 2199023255553; factory trace nano/final
    """
    from factory import terminal_data
    from factory.engine.errors import UsageError
    from warehouse import Warehouse, lineage

    opened = Warehouse(warehouse)
    if not what.isdecimal():
        if down:
            raise UsageError(f"trace {what} --down: descendants are told of rows; give a row_id")
        terminal_data.show_checkpoint(opened, what, json)
        return
    hops = lineage.trace_down(opened, int(what)) if down else lineage.trace_up(opened, int(what))
    terminal_data.show_trace(opened, hops, json)


def why(row_id: RowId, warehouse: Root = DEFAULT, json: AsJson = False) -> None:
    """Show every decision about a row: scores, rejections, failures.

    Example: factory why 2199023255553
    """
    from factory import terminal_data
    from warehouse import Warehouse, lineage

    terminal_data.show_why(row_id, lineage.why(Warehouse(warehouse), row_id), json)


def ls(prefix: Annotated[str, typer.Argument(help="Only names that begin so.")] = "", warehouse: Root = DEFAULT,
       all_versions: Annotated[bool, typer.Option("--all", "-a", help="Every version, not only the latest.")] = False,
       ops: Annotated[bool, typer.Option("--ops", help="List the ops a recipe can use, or all about one.")] = False,
       json: AsJson = False) -> None:
    """List datasets (or ops).

    Example: factory ls pico; factory ls --ops filter.length
    """
    if ops:
        from factory import terminal

        terminal.show_ops(prefix, json)
        return
    from factory import terminal_data
    from warehouse import Warehouse

    terminal_data.show_datasets(Warehouse(warehouse), prefix, all_versions, json)


def show(ref: Ref, warehouse: Root = DEFAULT,
         rows: Annotated[int, typer.Option("-n", "--rows", min=0, help="How many rows to print.")] = 3,
         json: AsJson = False) -> None:
    """Show a dataset version: how it was made, its funnel, some rows.

    Example: factory show pico/reasoning
    """
    from factory import terminal_data, terminal_verify
    from factory.engine.verdicts import unjudged
    from warehouse import Warehouse

    house = Warehouse(warehouse)
    found = house.dataset(ref)
    terminal_data.show_dataset(house, found, rows, json)
    if found.kind == "scores" and not json:
        terminal_verify.show_unjudged(found.ref, found.manifest.op, unjudged(house, found.ref))


def diff(old: Ref, new: Ref, warehouse: Root = DEFAULT,
         rows: Annotated[int, typer.Option("-n", "--rows", min=0, help="How many rows to print.")] = 10,
         json: AsJson = False) -> None:
    """Compare two versions: which rows came and went, and for what reason.

    Example: factory diff pico/reasoning@1 pico/reasoning@2
    """
    from factory import terminal_warehouse
    from warehouse import Warehouse
    from warehouse.upkeep.versions import diff as compare

    terminal_warehouse.show_diff(compare(Warehouse(warehouse), old, new), rows, json)


def tag(ref: Version, tags: Annotated[list[str], typer.Argument(metavar="TAG...", help="What names it from now on.")],
        warehouse: Root = DEFAULT) -> None:
    """Let name@TAG name a version.

    Example: factory tag pico/reasoning@1 prod
    """
    from warehouse import Warehouse

    opened = Warehouse(warehouse)
    for name in tags:
        found = opened.set_tag(ref, name)
        print(f"{found.dataset}@{name} is {found.ref}")


def untag(ref: Annotated[str, typer.Argument(metavar="NAME@TAG")], warehouse: Root = DEFAULT) -> None:
    """Take a tag away; the version stays.

    Example: factory untag pico/reasoning@prod
    """
    from warehouse import Warehouse

    Warehouse(warehouse).remove_tag(ref)
    print(f"{ref} is no tag any more")


def rm(refs: Annotated[list[str], typer.Argument(metavar="NAME@N...", help="Versions to delete, by number.")],
       warehouse: Root = DEFAULT,
       checkpoint: Annotated[bool, typer.Option("--checkpoint", help="They are checkpoints.")] = False,
       reason: Annotated[str, typer.Option(help="Why; kept with the deletion.")] = "") -> None:
    """Delete versions: they are listed and chosen no more. `factory restore` undoes it until `factory gc` has run.

    Example: factory rm pico/reasoning@1 --reason "wrong prompt"
    """
    from warehouse import Warehouse
    from warehouse.upkeep.versions import remove

    for gone in remove(Warehouse(warehouse), refs, reason, checkpoints=checkpoint):
        print(f"{gone} is deleted; its parts stay until factory gc finds that nothing needs them")


def restore(refs: Annotated[list[str], typer.Argument(metavar="NAME@N...")], warehouse: Root = DEFAULT,
            checkpoint: Annotated[bool, typer.Option("--checkpoint", help="They are checkpoints.")] = False) -> None:
    """Bring deleted versions back.

    Example: factory restore pico/reasoning@1
    """
    from warehouse import Warehouse

    opened = Warehouse(warehouse)
    for ref in refs:
        found = opened.restore_checkpoint(ref) if checkpoint else opened.restore(ref)
        print(f"{found.ref} is back")


def gc(warehouse: Root = DEFAULT,
       dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.")] = False,
       grace: Annotated[float | None, typer.Option(metavar="HOURS", min=0, help="How long unneeded files stay "
                                                   "(default: 24 on a disk, 168 on object storage).")] = None,
       retention: Annotated[float, typer.Option(metavar="DAYS", min=0,
                                                help="How long unfinished work stays.")] = 14,
       json: AsJson = False) -> None:
    """Remove what nothing needs, in two phases: this run lists it, a run after the grace period deletes it.

    Example: factory gc --dry-run
    """
    from factory import terminal_warehouse
    from warehouse import Warehouse
    from warehouse.upkeep.gc import collect

    terminal_warehouse.show_gc(collect(Warehouse(warehouse), grace=None if grace is None else grace * 3600,
                                       retention=retention * 86400, dry_run=dry_run), json)


def fsck(warehouse: Root = DEFAULT,
         quick: Annotated[bool, typer.Option("--quick", help="Sizes and counts, not the bytes of parts.")] = False,
         repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended without loss.")] = False,
         json: AsJson = False) -> None:
    """Check every record, part, count and edge; name what is damaged. Exit code 1 when something is.

    Example: factory fsck --quick
    """
    from factory import terminal_warehouse
    from warehouse import Warehouse
    from warehouse.upkeep.fsck import check

    report = check(Warehouse(warehouse), quick=quick, repair=repair)
    terminal_warehouse.show_fsck(report, json, quick)
    raise typer.Exit(1 if report.damage else 0)


def export(ref: Ref, to: Annotated[str, typer.Option("--to", help="delta:PATH.")], warehouse: Root = DEFAULT,
           json: AsJson = False) -> None:
    """Write a dataset version as a Delta table, for Spark and its kin.

    Example: factory export pico/reasoning --to delta:out
    """
    from factory import terminal_warehouse
    from factory.engine.errors import UsageError
    from warehouse import Warehouse
    from warehouse.export import delta

    form, _, target = to.partition(":")
    if form != "delta" or not target:
        raise UsageError(f"--to {to}: a dataset version is exported as delta:PATH")
    terminal_warehouse.show_export(delta.export(Warehouse(warehouse).dataset(ref), target), json)


def export_lineage(warehouse: Root = DEFAULT,
                   openlineage: Annotated[bool, typer.Option("--openlineage", help="As OpenLineage events.")] = True,
                   run: Annotated[str | None, typer.Option(help="Only this run.")] = None,
                   output: Annotated[Path | None, typer.Option("-o", "--output", help="A file (default: the screen).")]
                   = None) -> None:
    """Print runs, steps and datasets as OpenLineage events, one JSON object a line.

    Example: factory export-lineage --openlineage -o events.jsonl
    """
    from factory import terminal_warehouse
    from warehouse import Warehouse
    from warehouse.export.openlineage import events

    terminal_warehouse.write_lines(events(Warehouse(warehouse), run=run), output)


VERBS = (sql, trace, why, ls, show, diff, tag, untag, rm, restore, gc, fsck, export, export_lineage)
