"""What run, plan, apply and publish print; JSON where it was asked for. See `terminal_data` for the others."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.engine.errors import UsageError
from factory.engine.told import fold, parts_of, span, took
from factory.lines import complain, console, counted, entry, print_json, table
from factory.terminal_costs import cost_per_row, spent
from factory.terminal_data import show_trace
from factory.terminal_explain import show_explained
from factory.terminal_loop import show_loop
from factory.terminal_verify import find_unjudged, show_unjudged

if TYPE_CHECKING:
    import polars as pl

    from factory.api import Planned
    from factory.engine.run import RunReport
    from warehouse import Dataset, Warehouse
    from warehouse.records import Counts, StepReport

MOST_NAMES = 6
"""More steps than this that did not end are counted, not named."""


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


def report_parts(steps: Sequence[StepReport]) -> dict[str, str]:
    """The steps of a run that are told with their report; a report that never ran is known by its op."""
    from factory.engine.op import get_op

    return parts_of({step.step: "report" if get_op(step.op).kind == "report" else "" for step in steps})


def show_run(report: RunReport, warehouse: str | Path, as_json: bool) -> None:
    """What was measured, the funnel of the rows, what the loop came to, how the run ended."""
    from warehouse import Warehouse

    if as_json:
        print_json({"run_id": report.run_id, "status": report.status, "exit_code": report.exit_code,
                    "steps": [step.model_dump() for step in report.steps], "errors": [str(e) for e in report.errors],
                    "unjudged": {step: found.to_dicts() for step, found in
                                 find_unjudged(report, Warehouse(warehouse)).items()}})
        return
    if console.is_terminal:
        console.print()
    steps = fold(report.steps, report_parts(report.steps))
    _show_measured([step for step in steps if step.kind in ("scores", "tables")], report)
    _show_funnel([step for step in steps if step.kind in ("rows", "selection")
                  or (step.kind == "receipt" and step.counts.owed)])
    show_loop(steps, report, Warehouse(warehouse))
    for name, prompts in find_unjudged(report, Warehouse(warehouse)).items():
        console.print()
        show_unjudged(name, report.manifests[name].op, prompts)
    _show_unfinished(steps)
    for trace in report.tracebacks:
        print(trace, file=sys.stderr)
    for error in report.errors:
        complain(str(error))
    fresh = [step for step in report.steps if not step.reused]
    tokens = sum(step.usage.tokens_out for step in fresh)
    console.print()
    entry(" · ".join(part for part in (
        f"run {report.run_id} {report.status} in {span(sum(step.seconds for step in report.steps))}",
        f"{tokens:,} tokens written" if tokens else "", spent(report.steps),
        f"warehouse {warehouse}") if part))
    _show_cost(report, Warehouse(warehouse))
    for found in report.manifests.values():
        if "receipt" in found.facts:
            receipt = found.facts["receipt"]
            what = receipt.get("what") or f"{receipt['rows']:,} rows of {receipt['source']}"
            entry(f"published {what} to {receipt['path']}")
    if report.status == "interrupted":
        entry("What was finished is kept; the same command goes on from here.")


def _show_cost(report: RunReport, warehouse: Warehouse) -> None:
    """What a row of the result cost, where a model had a price."""
    source = _delivered(report, warehouse) if any(m.facts.get("currency") for m in report.manifests.values()) else None
    each = cost_per_row(warehouse, source.ref) if source is not None else ""
    if each:
        entry(each)


def _show_measured(steps: Sequence[StepReport], report: RunReport) -> None:
    """Steps that measure: how the default rule judged. What goes is decided by select steps."""
    if not steps:
        return
    rows = []
    for step in steps:
        passed, refused, undecided, why = verdict_counts(step.counts)
        pairs = sum(part.rows for part in report.manifests[step.step].tables.get("pairs", []))
        if step.kind == "tables":
            rows.append([step.step, f"{step.counts.owed:,}", "", "", "", f"{step.counts.failed:,}", took(step),
                         f"{pairs:,} pairs" if pairs else ""])
        else:
            rows.append([step.step, f"{step.counts.owed:,}", f"{passed:,}", f"{refused:,}", f"{undecided:,}",
                         f"{step.counts.failed:,}", took(step), counted(why)])
    header = ["measured", "in", "passed", "refused", "undecided", "failed", "time", "because"]
    if all(row[4] in ("", "0") for row in rows):
        header, rows = [*header[:4], *header[5:]], [[*row[:4], *row[5:]] for row in rows]
    table(header, rows, numbers=header[1:-1])
    console.print()


def verdict_counts(counts: Counts) -> tuple[int, int, int, dict[str, int]]:
    """Passed, refused, undecided of a score step, and the reasons of all that did not pass."""
    why = {name: count for name, count in counts.reasons.items() if name != "passed"}
    undecided = sum(count for name, count in why.items() if name.split(":")[0] == "undecided")
    passed = counts.reasons.get("passed", 0)
    return passed, counts.kept - passed - undecided, undecided, why


def _show_funnel(steps: Sequence[StepReport]) -> None:
    """Steps that make, choose or deliver rows."""
    rows = []
    for step in steps:
        c = step.counts
        rows.append([step.step, f"{c.owed:,}", f"{c.kept:,}", f"{c.rejected:,}", f"{c.failed:,}", took(step),
                     counted(c.reasons)])
    header = ["rows of", "in", "kept", "rejected", "failed", "time", "because"]
    if rows:
        table(header, rows, numbers=header[1:-1])


def _show_unfinished(steps: Sequence[StepReport]) -> None:
    """Steps that did not come to an end."""
    for status in ("failed", "blocked", "skipped"):
        names = [step.step for step in steps if step.status == status]
        if names:
            more = len(names) - MOST_NAMES
            shown = names if more <= 1 else [*names[:MOST_NAMES], f"… and {more} more"]
            entry(", ".join(shown), lead=f"{status}: ", lead_style="red" if status == "failed" else "yellow")


def show_example(report: RunReport, root: str | Path) -> None:
    """One row of what was published (or last selected), traced to its source and to what trained its writer."""
    from warehouse import Warehouse
    from warehouse.lineage import trace_up

    warehouse = Warehouse(root)
    source = _delivered(report, warehouse)
    row_id = _example_row(source) if source is not None else None
    if source is None or row_id is None:
        return
    option = "" if str(root) == "warehouse-data" else f" -w {root}"
    console.print()
    entry(f"Where a row of {source.ref} comes from (factory trace {row_id}{option}):\n ")
    show_trace(warehouse, trace_up(warehouse, row_id), False)
    console.print()
    table(["", ""], [["Ask on:", f"factory why {row_id}{option}"], ["", f"factory show {source.ref}{option}"],
                     ["", f'factory sql "SELECT * FROM datasets"{option}']])


def _delivered(report: RunReport, warehouse: Warehouse) -> Dataset | None:
    """The rows that were published last, or else selected last."""
    made = list(report.manifests.values())
    published = [warehouse.manifest(item.ref) for found in reversed(made) if found.kind == "receipt"
                 for item in found.inputs[:1]]
    selected = [found for found in reversed(made) if found.kind == "selection"]
    for found in [*(one for one in published if one.kind in ("rows", "selection")), *selected]:
        if found.row_count:
            return warehouse.dataset(found.ref)
    return None


def _example_row(source: Dataset) -> int | None:
    """The first row that a checkpoint wrote, or the first at all."""
    ids = source.scan(inherit=False).select("row_id").collect()["row_id"]
    for content in source.contents:
        if content.manifest.facts.get("by_checkpoint"):
            own = ids.filter(ids.is_in(content.table("rows").select("row_id").collect()["row_id"].implode()))
            if own.len():
                return int(own[0])
    return int(ids[0]) if ids.len() else None


def show_plan(planned: Planned, explain: str | None, as_json: bool) -> None:
    """Steps with what would happen to each, or one step's reasons."""
    if explain is not None:
        show_explained(planned, explain, as_json)
        return
    if as_json:
        print_json({"recipe": planned.plan.recipe_name, "steps": [
            {"step": step.name, "op": step.spec.name, "dataset": step.dataset, "fingerprint": step.fingerprint,
             "state": planned.statuses[step.name].state, "reason": planned.statuses[step.name].reason,
             "ref": _ref(planned, step.name), "inputs": step.inputs, "partial": step.partial}
            for step in planned.plan.steps.values()]})
        return
    rows = [[step.name, step.spec.name, step.fingerprint[:8], _will(planned, step.name)]
            for step in planned.plan.steps.values()]
    states = [planned.statuses[name].state for name in planned.plan.steps]
    table(["step", "op", "identity", "will"], rows, styles=["green" if s == "reuse" else "" for s in states])
    console.print()
    here = f"warehouse {planned.warehouse.root}" if planned.warehouse else "the warehouse does not exist yet"
    entry(f"{len(states)} steps: {states.count('run')} to run, {states.count('reuse')} to reuse · {here}")
    for status in planned.statuses.values():
        for warning in status.warnings:
            complain(warning, "warning")


def _will(planned: Planned, name: str) -> str:
    status, step = planned.statuses[name], planned.plan.steps[name]
    if status.state == "reuse":
        return f"reuse {_ref(planned, name)}"
    if planned.warehouse is None:
        return "run"
    missing = [source for source in step.inputs if planned.statuses[source].manifest is None]
    if len(missing) > 2:
        return f"run: waits for {missing[0]} and {len(missing) - 1} more"
    return f"run: {status.reason}"


def _ref(planned: Planned, step: str) -> str | None:
    found = planned.statuses[step].manifest
    return found.ref if found is not None else None


def show_ops(prefix: str, as_json: bool) -> None:
    """Every op a recipe can use, or all about one."""
    from factory.engine.opdoc import describe_ops

    listed = [item for item in describe_ops() if item["op"].startswith(prefix)]
    exact = [item for item in listed if item["op"] == prefix]
    if not listed:
        raise UsageError(f"no op begins with {prefix!r}: `factory ls --ops` lists them")
    if as_json:
        print_json(exact or listed)
    elif exact:
        _show_op(exact[0])
    else:
        table(["op", "kind", "does"], [[item["op"], item["kind"], item["help"]] for item in listed])
        console.print()
        entry("factory ls --ops NAME shows an op's params and an example")


def _show_op(item: dict[str, Any]) -> None:
    entry(f"{item['op']} ({item['kind']})", style="bold")
    entry(item["doc"], indent=2)
    if item["params"]:
        entry("params", style="dim")
        table(["", ""], [[param["name"], param["text"]] for param in item["params"]], indent=2)
    entry("example", style="dim")
    entry(item["example"], indent=2)


def show_applied(frame: pl.DataFrame, target: Path, as_json: bool) -> None:
    """How many rows were judged how, and where the result is."""
    column = next((name for name in ("label", "passed") if name in frame.columns), None)
    counts = dict(frame.group_by(column).len().sort(column, nulls_last=True).iter_rows()) if column else {}
    if as_json:
        print_json({"target": str(target), "rows": frame.height, "counts": {str(k): v for k, v in counts.items()}})
        return
    names = {True: "passed", False: "refused", None: "undecided"}
    shown = ", ".join(f"{names.get(name, name)} {count:,}" for name, count in counts.items())
    entry(f"{frame.height:,} rows written to {target}" + (f": {shown}" if shown else ""))
    failed: list[str] = frame["failed"].drop_nulls().to_list() if "failed" in frame.columns else []
    if failed:
        complain(f"{len(failed):,} of them could not be judged: {'; '.join(failed[:3])}"
                 + (f"; … {len(failed) - 3:,} more (column `failed`)" if len(failed) > 3 else ""), "warning")


def show_receipt(receipt: Mapping[str, Any], as_json: bool) -> None:
    """What was published, and how to load it."""
    if as_json:
        print_json(receipt)
        return
    entry(f"{receipt['rows']:,} rows of {receipt['source']} published to {receipt['path']}")
    entry(f'load it with: datasets.load_dataset("{receipt["path"]}", split="train")')
