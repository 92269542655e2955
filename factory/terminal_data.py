"""What the commands that read a warehouse print: query results, traces, decisions, datasets."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import polars as pl
from rich.markup import escape
from rich.table import Table

from factory.lines import complain, console, counted, entry, fields, heading, one_line, print_json, size, table
from factory.terminal_costs import cost_column, cost_fields, costs_of
from factory.terminal_loop import about, figures_of, show_story
from warehouse.errors import NotInWarehouse

if TYPE_CHECKING:
    from warehouse import Dataset, Warehouse
    from warehouse.lineage import Finding, Hop
    from warehouse.records import Manifest

LONGEST_TEXT = 400
MOST_ROWS = 200
ROWLESS = ("checkpoint", "gate", "receipt")
"""Kinds of versions that hold no rows of their own."""


def show_frame(frame: pl.DataFrame, *, json: bool, csv: bool, parquet: Path | None) -> None:
    """A query's result."""
    if parquet is not None:
        frame.write_parquet(parquet)
        print(f"{frame.height:,} rows written to {parquet}")
    elif json:
        print_json(frame.to_dicts())
    elif csv:
        print(_flat(frame).write_csv(), end="")
    elif console.is_terminal:
        _show_grid(frame)
    else:
        rows = [[one_line("" if value is None else value, LONGEST_TEXT) for value in row]
                for row in frame.head(MOST_ROWS).iter_rows()]
        table(frame.columns, rows, numbers=[name for name, kind in frame.schema.items() if kind.is_numeric()])
    if frame.height > MOST_ROWS and not (json or csv or parquet):
        print(f"… {frame.height - MOST_ROWS:,} more rows; use --json, --csv or --parquet for all")


def _flat(frame: pl.DataFrame) -> pl.DataFrame:
    """CSV has no lists, structures or bytes: they become JSON and hexadecimal text."""
    nested = [name for name, kind in frame.schema.items() if kind.is_nested() or kind == pl.Binary()]
    texts = {name: [None if value is None else one_line(value) for value in frame[name].to_list()] for name in nested}
    return frame.with_columns(pl.Series(name, column, dtype=pl.String()) for name, column in texts.items())


def _show_grid(frame: pl.DataFrame) -> None:
    """A table where the columns fit beside each other; else each row as a block of fields."""
    longest = [max([len(name), *(len(one_line("" if value is None else value, 24)) for value in frame[name].head(20))])
               for name in frame.columns]
    if sum(longest) + 2 * len(longest) > console.width:
        for number, record in enumerate(frame.head(MOST_ROWS).iter_rows(named=True), 1):
            heading(f"{number:,} of {frame.height:,}")
            fields([(name, one_line(value, LONGEST_TEXT)) for name, value in record.items() if value is not None])
        return
    grid = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for name, kind in frame.schema.items():
        grid.add_column(escape(name), justify="right" if kind.is_numeric() else "left", overflow="fold")
    for row in frame.head(MOST_ROWS).iter_rows():
        grid.add_row(*(escape(one_line("" if value is None else value, LONGEST_TEXT)) for value in row))
    console.print(grid)


def warn_of_damage(warehouse: Warehouse) -> None:
    """Answers leave out what cannot be read: say so."""
    damaged = warehouse.unreadable()
    if damaged:
        complain(f"parts of {', '.join(damaged[:5])} cannot be read, and answers are without their rows: factory fsck "
                 "names them", "warning")


def show_trace(warehouse: Warehouse, hops: list[Hop], as_json: bool) -> None:
    """A row, then what it was made from (or what was made of it), hop by hop; then what trained the checkpoints that
    wrote it."""
    from warehouse.lineage.ancestry import ancestry, story

    wrote = list(dict.fromkeys(hop.checkpoint for hop in hops if hop.checkpoint is not None))
    if as_json:
        known = {found.ref for found in warehouse.checkpoints()}
        chains = {ref: [asdict(one) for one in ancestry(warehouse, ref)] for ref in wrote if ref in known}
        print_json([{**asdict(hop), "trained": chains.get(hop.checkpoint or "", [])} for hop in hops])
        return
    for hop in hops:
        made = f"{hop.op} with {hop.model}" if hop.model else hop.op
        entry(f"{hop.dataset}  by {made}, run {hop.run_id}", lead=f"{hop.row_id}  ", lead_style="bold cyan",
              indent=2 * hop.depth)
        shown = [(name, one_line(value)) for name, value in hop.shown.items()]
        fields([("found at", one_line(hop.origin or "")), *shown], indent=2 * hop.depth + 2)
    chains_told = story(warehouse, wrote)
    if chains_told:
        console.print()
        show_story(chains_told)


def show_checkpoint(warehouse: Warehouse, ref: str, as_json: bool) -> None:
    """What trained a checkpoint, down to the model that is none, and who wrote what it was trained on.
    Raises NotInWarehouse."""
    from warehouse.lineage.ancestry import ancestry, story

    known = list(dict.fromkeys(found.name for found in warehouse.checkpoints()))
    if ref.partition("@")[0] not in known:
        raise NotInWarehouse(f"{ref!r} is neither a row_id (as every dataset shows it) nor a checkpoint of "
                             f"{warehouse.root}, which has {', '.join(known) or 'none'}")
    chain = ancestry(warehouse, ref)
    if as_json:
        print_json([asdict(training) for training in chain])
    else:
        show_story(story(warehouse, [chain[0].checkpoint]), metrics=True)


def show_why(row_id: int, findings: list[Finding], as_json: bool) -> None:
    """Every decision about a row."""
    if as_json:
        print_json([asdict(finding) for finding in findings])
        return
    colors = {"kept": "green", "passed": "green", "correct": "green", "rejected": "red", "failed": "red",
              "refused": "red", "incorrect": "red", "also": "red"}
    entry(f"row {row_id}", style="bold")
    rows = [_why_row(found) for found in findings]
    table(["", "", ""], rows, styles=[colors.get(row[0], "") for row in rows], indent=2)


def _why_row(found: Finding) -> list[str]:
    verdict = str(found.measured.get("verdict") or found.kind) if found.kind == "scored" else found.kind
    if not found.primary:
        verdict = "also"
    slot = found.measured.get("slot")
    code = found.reason_code if found.reason_code not in (None, verdict) else ""
    by = found.by if found.kind not in ("rejected", "failed") else f"sample {slot}" if slot is not None else ""
    said = ": ".join(part for part in (by, code, found.reason or "") if part)
    return [verdict, found.ref, said + (f" (kept: {found.kept_row_id})" if found.kept_row_id is not None else "")]


def show_datasets(warehouse: Warehouse, prefix: str, every: bool, as_json: bool) -> None:
    """Datasets with their size and how they were made."""
    manifests = [m for m in warehouse.manifests() if m.dataset.startswith(prefix)]
    if not every:
        manifests = list({m.dataset: m for m in manifests}.values())
    if as_json:
        print_json([{"ref": m.ref, "kind": m.kind, "rows": m.row_count, "bytes": m.bytes, "op": m.op,
                     "created_at": m.created_at, "partial": m.partial, "usage": m.usage.model_dump(),
                     "currency": m.facts.get("currency")} for m in manifests])
        return
    if not manifests:
        entry(f"no dataset begins with {prefix!r}" if prefix else "no datasets yet")
        return
    costs = cost_column(warehouse, manifests)
    table(["dataset", "rows", "size", "age", *(["cost"] if costs else []), "made by"],
          [[m.ref, "" if m.kind in ROWLESS else f"{m.row_count:,}", size(_bytes(warehouse, m)), _age(m.created_at),
            *([costs.get(m.ref, "")] if costs else []),
            m.op + (" (partial)" if m.partial else "") + (f": {about(m)}" if about(m) else "")]
           for m in manifests], numbers=("rows", "size", "age", "cost"))


def _bytes(warehouse: Warehouse, manifest: Manifest) -> int:
    """What a version takes, a checkpoint's files included."""
    if manifest.kind != "checkpoint":
        return manifest.bytes
    return manifest.bytes + warehouse.any_checkpoint(manifest.facts["checkpoint"]).bytes


def _age(stamp: str) -> str:
    seconds = (datetime.now(UTC) - datetime.fromisoformat(stamp)).total_seconds()
    for unit, span in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * span:
            return f"{seconds / span:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def show_dataset(warehouse: Warehouse, dataset: Dataset, rows: int, as_json: bool) -> None:
    """A version's record and what it cost, then its first rows."""
    m, costs = dataset.manifest, costs_of(warehouse, dataset.ref)
    frame = dataset.scan().head(rows).collect() if rows and m.tables else pl.DataFrame()
    if as_json:
        print_json({"ref": m.ref, "kind": m.kind, "op": m.op, "op_version": m.op_version, "rows": m.row_count,
                    "content_hash": m.content_hash, "fingerprint": m.fingerprint,
                    "inputs": [{"role": item.role, "ref": item.ref} for item in m.inputs], "run": m.run_id,
                    "created_at": m.created_at, "counts": m.counts.model_dump(), "usage": m.usage.model_dump(),
                    "costs": costs,
                    "facts": m.facts, "license": m.license, "partial": m.partial, "identity": m.identity,
                    "rows_shown": frame.to_dicts()})
        return
    c = m.counts
    verdict = m.kind in ("checkpoint", "report", "gate")
    model = f" with {m.facts['model']}" if m.facts.get("model") and not verdict else ""
    held = m.kind if m.kind in ROWLESS else f"{m.row_count:,} rows ({m.kind}{', partial' if m.partial else ''})"
    entry(f"{m.ref}: {held}", style="bold")
    at = m.created_at[:16].replace("T", " ")
    fields([("made by", f"{m.op} version {m.op_version}{model}, run {m.run_id}, {at} UTC"),
            ("from", ", ".join(item.ref for item in m.inputs if item.role == "from")),
            ("against", ", ".join(item.ref for item in m.inputs if item.role == "against")),
            ("verdicts", ", ".join(item.ref for item in m.inputs if item.role == "verdicts")),
            ("where", "; ".join(m.facts.get("where") or [])),
            *(figures_of(m) if verdict else []),
            ("slots", "" if verdict else
             f"{c.owed:,} in = {c.kept:,} kept + {c.rejected:,} rejected + {c.failed:,} failed"),
            ("reasons", counted(c.reasons, 20)),
            *cost_fields(costs),
            ("params", one_line(m.identity.get("params") or {}, LONGEST_TEXT)), ("license", ", ".join(m.license)),
            ("tables", _tables(m) if m.kind == "checkpoint" else ""),
            ("lineage", f"factory trace {m.facts['checkpoint']}" if m.kind == "checkpoint" else ""),
            ("fingerprint", m.fingerprint), ("content", m.content_hash)])
    for row in frame.iter_rows(named=True):
        heading(f"row {row['row_id']}" if "row_id" in row else "")
        fields([(name, one_line(value, LONGEST_TEXT)) for name, value in row.items()
                if value is not None and name not in ("row_id", "row_key", "answer_key")])


def _tables(manifest: Manifest) -> str:
    return ", ".join(f"{name} ({sum(part.rows for part in parts):,} rows)" for name, parts in manifest.tables.items())
