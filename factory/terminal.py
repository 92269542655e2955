"""What the command line prints: tables that stay readable at 80 columns, JSON where it was asked for."""

from __future__ import annotations

import json as jsonlib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import polars as pl
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from factory.engine.errors import UsageError

if TYPE_CHECKING:
    from factory.api import Planned
    from factory.engine.run import RunReport
    from warehouse import Dataset, Warehouse
    from warehouse.lineage import Finding, Hop
    from warehouse.records import Counts

console = Console(highlight=False)


def parse_pairs(pairs: Iterable[str] | None, flag: str) -> dict[str, Any]:
    """`key=value` pairs; values are read as YAML scalars, so `n=8` is a number."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    parsed: dict[str, Any] = {}
    for pair in pairs or []:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise UsageError(f"{flag} {pair}: write it as key=value")
        try:
            parsed[key] = YAML(typ="safe").load(text) if text else ""
        except YAMLError:
            parsed[key] = text
    return parsed


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    print(jsonlib.dumps(value, indent=1, ensure_ascii=False, default=_plain))


def _plain(value: Any) -> Any:
    return value.hex() if isinstance(value, bytes) else str(value)


def warn(message: str) -> None:
    """A warning on standard error."""
    print(f"warning: {message}", file=sys.stderr)


def reasons_text(counts: Counts, most: int = 4) -> str:
    """Reasons with their counts, the most frequent first."""
    shown = [f"{name} {count:,}" for name, count in list(counts.reasons.items())[:most]]
    more = len(counts.reasons) - most
    return ", ".join(shown) + (f", … {more} more" if more > 0 else "")


def _table(*columns: str, numbers: Iterable[str] = ()) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold dim", padding=(0, 2, 0, 0))
    for name in columns:
        table.add_column(name, justify="right" if name in set(numbers) else "left",
                         overflow="fold", no_wrap=name in set(numbers))
    return table


def show_run(report: RunReport, warehouse: Path, as_json: bool) -> None:
    """The funnel of every dataset, how the run ended, and what to do next."""
    if as_json:
        print_json({"run_id": report.run_id, "status": report.status, "exit_code": report.exit_code,
                    "steps": [step.model_dump() for step in report.steps], "errors": [str(e) for e in report.errors]})
        return
    table = _table("step", "in", "kept", "rejected", "failed", "by reason", numbers=("in", "kept", "rejected", "failed"))
    for step in report.steps:
        if step.status == "done":
            c = step.counts
            table.add_row(step.step, f"{c.owed:,}", f"{c.kept:,}", f"{c.rejected:,}", f"{c.failed:,}", reasons_text(c))
        else:
            table.add_row(step.step, "", "", "", "", f"[yellow]{step.status}[/]")
    console.print(table)
    for trace in report.tracebacks:
        print(trace, file=sys.stderr)
    for error in report.errors:
        print(f"error: {error}", file=sys.stderr)
    tokens = sum(s.usage.tokens_out for s in report.steps if not s.reused)
    console.print(f"\nrun {report.run_id} {report.status} · warehouse {warehouse}"
                  + (f" · {tokens:,} tokens written" if tokens else ""), soft_wrap=True)
    for found in report.manifests.values():
        if "receipt" in found.facts:
            receipt = found.facts["receipt"]
            console.print(f"published {receipt['rows']:,} rows of {receipt['source']} to {receipt['path']}", soft_wrap=True)
    if report.status == "interrupted":
        console.print("What was finished is kept; the same command goes on from here.")


def show_example(report: RunReport, root: Path) -> None:
    """One row of what was published (or last selected), traced to its source."""
    from warehouse import Warehouse
    from warehouse.lineage import trace_up

    chosen = [found for found in report.manifests.values() if found.kind == "selection" and found.row_count]
    if not chosen:
        return
    warehouse = Warehouse(root)
    row_id = warehouse.dataset(chosen[-1].ref).table("selection").head(1).collect()["row_id"][0]
    console.print(f"\nWhere the first row of {chosen[-1].ref} comes from (factory trace {row_id}):\n", soft_wrap=True)
    show_trace(trace_up(warehouse, row_id), False)
    console.print(f'\nAsk on: factory why {row_id} · factory sql "SELECT * FROM datasets" · factory ls', soft_wrap=True)


def show_plan(planned: Planned, explain: str | None, as_json: bool) -> None:
    """Steps with what would happen to each, or one step's reasons."""
    from factory.engine.resolve import explain as differences
    from factory.engine.resolve import previous_version

    if explain is not None:
        if explain not in planned.plan.steps:
            raise UsageError(f"--explain {explain}: no such step; there are {', '.join(planned.plan.steps)}")
        step, status = planned.plan.steps[explain], planned.statuses[explain]
        previous = previous_version(step, planned.warehouse) if planned.warehouse else None
        inputs = [planned.statuses[name].manifest for name in step.inputs]
        changes = differences(step, previous, [found for found in inputs if found is not None]) if previous else []
        waiting = [f"{name} will be made again" for name, found in zip(step.inputs, inputs, strict=True) if found is None]
        if as_json:
            print_json({"step": explain, "state": status.state, "reason": status.reason, "compared_to":
                        previous.ref if previous else None, "changes": [list(change) for change in changes], "inputs": waiting})
            return
        console.print(f"[bold]{explain}[/] ({step.spec.name}): {status.state}", soft_wrap=True)
        if status.manifest is not None:
            console.print(f"  reuses {status.manifest.ref}: same fingerprint {step.fingerprint[:12]}, same inputs")
        elif previous is None:
            console.print(f"  {step.dataset} has no version yet")
        for field, then, now in changes:
            console.print(f"  {field}: {escape(_short(then))} → {escape(_short(now))}", soft_wrap=True)
        for line in waiting:
            console.print(f"  {line}")
        return
    if as_json:
        print_json({"recipe": planned.plan.recipe_name, "steps": [
            {"step": step.name, "op": step.spec.name, "dataset": step.dataset, "fingerprint": step.fingerprint,
             "state": planned.statuses[step.name].state, "reason": planned.statuses[step.name].reason,
             "ref": _ref(planned, step.name), "inputs": step.inputs, "partial": step.partial}
            for step in planned.plan.steps.values()]})
        return
    table = _table("step", "op", "fingerprint", "will")
    for step in planned.plan.steps.values():
        status = planned.statuses[step.name]
        will = f"[green]reuse[/] {_ref(planned, step.name)}" if status.state == "reuse" else f"[yellow]run[/]: {status.reason}"
        table.add_row(step.name, step.spec.name, step.fingerprint[:12], will)
    console.print(table)
    for status in planned.statuses.values():
        for warning in status.warnings:
            warn(warning)


def _ref(planned: Planned, step: str) -> str | None:
    found = planned.statuses[step].manifest
    return found.ref if found is not None else None


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else jsonlib.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 300 else f"{text[:300]}… ({len(text):,} characters)"


def show_preview(shown: list[dict[str, Any]], as_json: bool) -> None:
    """Requests as the model gets them, then answers."""
    if as_json:
        print_json(shown)
        return
    for item in shown:
        console.rule(f"row {item['row']}, sample {item['slot']}", style="dim")
        for message in item.get("messages", []):
            console.print(f"[bold]{message['role']}[/]\n{escape(message['content'])}", soft_wrap=True)
        if "prompt" in item:
            console.print(escape(item["prompt"] or ""), soft_wrap=True)
        if "answer" in item:
            text = item["refused"] or f"{item['prefill']}{item['answer']}"
            console.print(f"[bold green]answer[/] ({item['finish_reason']}, {item['tokens_out']} tokens)\n{escape(text)}",
                          soft_wrap=True)


def show_frame(frame: pl.DataFrame, *, json: bool, csv: bool, parquet: Path | None) -> None:
    """A query's result."""
    if parquet is not None:
        frame.write_parquet(parquet)
        print(f"{frame.height:,} rows written to {parquet}")
    elif json:
        print_json(frame.to_dicts())
    elif csv:
        print(frame.write_csv(), end="")
    else:
        table = _table(*frame.columns, numbers=[n for n, t in frame.schema.items() if t.is_numeric()])
        for row in frame.head(200).iter_rows():
            table.add_row(*(escape(_cell(value)) for value in row))
        console.print(table)
        if frame.height > 200:
            console.print(f"… {frame.height - 200:,} more rows; use --json, --csv or --parquet for all")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bytes):
        return value.hex()
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


def show_trace(hops: list[Hop], as_json: bool) -> None:
    """A row, then what it was made from (or what was made of it), hop by hop."""
    if as_json:
        print_json([asdict(hop) for hop in hops])
        return
    for hop in hops:
        pad = "  " * hop.depth
        made = f"{hop.op} with [bold]{hop.model}[/]" if hop.model else hop.op
        console.print(f"{pad}[bold cyan]{hop.row_id}[/]  {hop.dataset}  by {made}, run {hop.run_id}", soft_wrap=True)
        if hop.origin:
            console.print(f"{pad}  found at {escape(hop.origin)}", soft_wrap=True)
        for name, value in hop.shown.items():
            console.print(f"{pad}  [dim]{name}[/] {escape(' '.join(str(value).split()))}", soft_wrap=True)


def show_why(row_id: int, findings: list[Finding], as_json: bool) -> None:
    """Every decision about a row."""
    if as_json:
        print_json([asdict(finding) for finding in findings])
        return
    colors = {"kept": "green", "rejected": "red", "failed": "red", "scored": "cyan", "created": "bold"}
    console.print(f"row [bold]{row_id}[/]")
    for found in findings:
        detail = ": ".join(part for part in (found.reason_code, found.reason) if part)
        if found.kept_row_id is not None:
            detail += f" (kept: {found.kept_row_id})"
        also = "" if found.primary else " (also)"
        console.print(f"  [{colors[found.kind]}]{found.kind:<9}[/]{found.ref:<30} {found.by}{also}  {escape(detail)}",
                      soft_wrap=True)


def show_ops(as_json: bool) -> None:
    """Every op a recipe can use, with its first line of help."""
    from factory.engine.op import all_ops
    from factory.engine.recipe_yaml import fields_of

    listed = [{"op": spec.name, "kind": spec.kind.value, "version": spec.version, "params": fields_of(spec.params),
               "help": spec.summary} for spec in all_ops()]
    if as_json:
        print_json(listed)
        return
    table = _table("op", "kind", "does", "params")
    for item in listed:
        table.add_row(str(item["op"]), str(item["kind"]), str(item["help"]), ", ".join(item["params"]))  # type: ignore[arg-type]
    console.print(table)


def show_datasets(warehouse: Warehouse, prefix: str, every: bool, as_json: bool) -> None:
    """Datasets with their size and how they were made."""
    manifests = [m for m in warehouse.manifests() if m.dataset.startswith(prefix)]
    if not every:
        manifests = list({m.dataset: m for m in manifests}.values())
    listed = [{"ref": m.ref, "kind": m.kind, "rows": m.row_count, "bytes": m.bytes, "op": m.op, "created_at": m.created_at,
               "partial": m.partial} for m in manifests]
    if as_json:
        print_json(listed)
        return
    table = _table("dataset", "kind", "rows", "size", "made by", "at", numbers=("rows", "size"))
    for m in manifests:
        table.add_row(m.ref + (" (partial)" if m.partial else ""), m.kind, f"{m.row_count:,}", _size(m.bytes), m.op,
                      m.created_at[:16].replace("T", " "))
    console.print(table)


def _size(count: int) -> str:
    value = float(count)
    for unit in ("B", "KB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def show_dataset(dataset: Dataset, rows: int, as_json: bool) -> None:
    """A version's record, then its first rows."""
    manifest = dataset.manifest
    frame = dataset.scan().head(rows).collect() if rows and manifest.tables else pl.DataFrame()
    facts: Mapping[str, Any] = {
        "ref": manifest.ref, "kind": manifest.kind, "op": f"{manifest.op} (version {manifest.op_version})",
        "rows": manifest.row_count, "content_hash": manifest.content_hash, "fingerprint": manifest.fingerprint,
        "inputs": [f"{item.role}: {item.ref}" for item in manifest.inputs], "run": manifest.run_id,
        "counts": manifest.counts.model_dump(), "usage": manifest.usage.model_dump(), "facts": manifest.facts,
        "license": manifest.license, "partial": manifest.partial, "identity": manifest.identity}
    if as_json:
        print_json({**facts, "rows_shown": frame.to_dicts()})
        return
    for name, value in facts.items():
        if value not in (None, [], {}):
            console.print(f"[dim]{name:<13}[/]{escape(_short(value))}", soft_wrap=True)
    for row in frame.iter_rows(named=True):
        console.rule(str(row.get("row_id", "")), style="dim")
        for name, value in row.items():
            if value is not None and not isinstance(value, bytes):
                console.print(f"[dim]{name}[/] {escape(_cell(value))}", soft_wrap=True)


def show_applied(frame: pl.DataFrame, target: Path, as_json: bool) -> None:
    """How many rows were judged how, and where the result is."""
    column = next((name for name in ("label", "passed") if name in frame.columns), None)
    counts = dict(frame.group_by(column).len().sort(column, nulls_last=True).iter_rows()) if column else {}
    if as_json:
        print_json({"target": str(target), "rows": frame.height, "counts": {str(k): v for k, v in counts.items()}})
        return
    shown = ", ".join(f"{name} {count:,}" for name, count in counts.items())
    console.print(f"{frame.height:,} rows written to {target}" + (f": {shown}" if shown else ""), soft_wrap=True)


def show_receipt(receipt: Mapping[str, Any], as_json: bool) -> None:
    """What was published, and how to load it."""
    if as_json:
        print_json(receipt)
        return
    console.print(f"{receipt['rows']:,} rows of {receipt['source']} published to {receipt['path']}", soft_wrap=True)
    console.print(f'load it with: datasets.load_dataset("{receipt["path"]}", split="train")', soft_wrap=True)
