"""What the commands about verifiers print: the doctor's findings, re-verified datasets, changed verdicts, and the
prompts that nobody could judge."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from factory.lines import console, entry, fields, one_line, print_json, table

if TYPE_CHECKING:
    import polars as pl

    from factory.diagnosis import Diagnosis, Proof
    from factory.engine.reverify import Stale
    from factory.engine.run import RunReport
    from factory.engine.verdicts import VerdictDiff
    from warehouse import Warehouse

MOST_PROMPTS = 5
_STYLES = {"ok": "green", "missing": "yellow", "broken": "red"}


def show_doctor(found: Diagnosis, as_json: bool) -> None:
    """What is there, what is missing and what it would enable, and every verifier's two rates."""
    if as_json:
        print_json({"broken": found.broken, "findings": [asdict(each) for each in found.findings],
                    "verifiers": [{**asdict(proof), "accepts": _rate(proof.accepted, proof.golds),
                                   "refuses": _rate(proof.refused, proof.mutants)} for proof in found.proofs]})
        return
    width = max(len(each.name) for each in found.findings)
    for each in found.findings:
        entry(each.found, lead=f"{each.state:<7}  {each.name:<{width}}  ", lead_style=_STYLES[each.state])
        if each.state != "ok":
            needed = f"for {each.enables}: {each.next_act}" if each.enables else each.next_act
            entry(needed, lead=" " * (width + 11), style="dim")
    console.print()
    rows = [[proof.state, f"{proof.op} {proof.version}", _share(proof.accepted, proof.golds),
             _share(proof.refused, proof.mutants), _remark(proof)] for proof in found.proofs]
    table(["", "verifier", "own golds accepted", "mutated golds refused", ""], rows,
          numbers=("own golds accepted", "mutated golds refused"))
    for proof in found.proofs:
        for fault in proof.faults[:MOST_PROMPTS]:
            entry(fault, lead=f"{proof.op}: ", lead_style="red")
    console.print()
    entry(f"broken: {', '.join(found.broken)}" if found.broken else "nothing that is installed is broken",
          style="bold red" if found.broken else "bold green")


def _rate(count: int, total: int) -> float | None:
    return count / total if total else None


def _share(count: int, total: int) -> str:
    return f"{count} of {total} ({100 * count / total:.0f} %)" if total else ""


def _remark(proof: Proof) -> str:
    return proof.found or (f"{proof.failed} without a verdict (time-out or crash)" if proof.failed else "")


def show_reverified(told: Sequence[Stale], reports: Sequence[RunReport], looked: int, dry_run: bool,
                    as_json: bool) -> None:
    """Datasets whose verifier changed, and what that changed; `looked` counts the datasets of verdicts looked at."""
    if as_json:
        print_json({"runs": [report.run_id for report in reports], "looked_at": looked, "datasets": [
            {"ref": each.ref, "op": each.op, "version_then": each.then, "version_now": each.now, "state": each.state,
             "why": each.why, "made": each.made, "changes": _changes(each.changed)} for each in told]})
        return
    for each in told:
        _show_stale(each, dry_run)
    done = sum(each.state == "done" for each in told)
    datasets = f"{looked:,} {'dataset' if looked == 1 else 'datasets'} of verdicts looked at"
    entry(f"{datasets}; every verdict is of its verifier's version here" if not told else
          f"{datasets}; {done:,} of {len(told):,} whose verifier changed judged again" if not dry_run else
          f"{datasets}; {sum(each.state == 'stale' for each in told):,} would be judged again")


def _show_stale(each: Stale, dry_run: bool) -> None:
    """One dataset whose verifier changed."""
    version = f"{each.op} {each.then} → {each.now}"
    if each.state == "code":
        entry(f"the code of {each.op} changed and its version is still {each.now}: raise it if results differ",
              lead=f"{each.ref}  ", lead_style="yellow")
    elif each.state == "stale":
        entry(f"{version}: {'would be judged again' if dry_run else 'not judged again'}", lead=f"{each.ref}  ",
              lead_style="bold")
    elif each.made is not None and each.changed is None:
        entry(f"{version}: {each.why}", lead=f"{each.ref} → {each.made}  ", lead_style="bold yellow")
    elif each.changed is None:
        entry(f"{version}: {each.state}: {each.why}", lead=f"{each.ref}  ", lead_style="red")
    else:
        moved = ", ".join(f"{count:,} {before} → {after}" for (before, after), count in each.changed.labels.items())
        entry(f"{version}, {each.changed.both:,} rows: {moved or 'no verdict changed'}",
              lead=f"{each.ref} → {each.made}  ", lead_style="bold green")
        if moved:
            entry(f"factory verdicts diff {each.ref} {each.made}", indent=2, style="dim")


def _changes(changed: VerdictDiff | None) -> list[dict[str, Any]] | None:
    return None if changed is None else [{"before": before, "after": after, "rows": rows}
                                         for (before, after), rows in changed.labels.items()]


def show_verdict_diff(found: VerdictDiff, limit: int, as_json: bool) -> None:
    """Counts by label and reason, then rows whose label changed."""
    if as_json:
        print_json({"old": found.old, "new": found.new, "both": found.both, "only_old": found.only_old,
                    "only_new": found.only_new, "made": found.made, "labels": _changes(found),
                    "changes": found.changes.to_dicts(), "rows": found.rows.head(limit).to_dicts(),
                    "rows_changed": found.rows.height})
        return
    alone = "".join(f", {count:,} only in {ref}" for ref, count in ((found.old, found.only_old),
                                                                   (found.new, found.only_new)) if count)
    entry(f"{found.old} → {found.new}: {found.both:,} rows judged by both{alone}; {found.rows.height:,} labels changed",
          style="bold")
    fields([(name, f"{one_line(then, 60)} → {one_line(now, 60)}") for name, (then, now) in found.made.items()])
    if not found.both:
        entry("no row is judged by both: the two are about different rows")
    if found.changes.height:
        console.print()
        table(["rows", "before", "after", "why"],
              [[f"{rows:,}", before, after, f"{code_before} → {code_after}"] for before, after, code_before, code_after,
               rows in found.changes.iter_rows()], numbers=("rows",))
    if limit and found.rows.height:
        console.print()
        for row in found.rows.head(limit).iter_rows(named=True):
            entry(f"{row['before']} → {row['after']}", lead=f"{row['row_id']}  ", lead_style="bold cyan")
            fields([("reference", _shown(row["reference"])), ("before", _side(row, "before")),
                    ("after", _side(row, "after"))], indent=2)
        if found.rows.height > limit:
            print(f"… {found.rows.height - limit:,} more rows; use --limit, or --json")


def _side(row: dict[str, Any], side: str) -> str:
    extracted = row[f"extracted_{side}"]
    taken = f"took {_shown(extracted)}; " if extracted is not None else ""
    return f"{taken}{row[f'code_{side}'] or ''}: {one_line(row[f'reason_{side}'] or '', 200)}"


def _shown(value: Any) -> str:
    return "" if value is None else repr(one_line(str(value), 120))


def find_unjudged(report: RunReport, warehouse: Warehouse) -> dict[str, pl.DataFrame]:
    """By step of a run: the prompts whose reference its verifier could not use."""
    from factory.engine.verdicts import has_unjudged, unjudged

    steps = {step.step: report.manifests.get(step.step) for step in report.steps if step.kind == "scores"}
    return {name: unjudged(warehouse, found.ref) for name, found in steps.items()
            if found is not None and has_unjudged(found)}


def show_unjudged(step: str, op: str, found: pl.DataFrame) -> None:
    """The prompts that a step could not judge, the first of them by name."""
    if not found.height:
        return
    prompts, rows = found["prompts"].sum(), found["rows"].sum()
    entry(f"{prompts:,} {'prompt has' if prompts == 1 else 'prompts have'} a reference that {op} cannot use, so "
          f"{rows:,} {'answer is' if rows == 1 else 'answers are'} undecided:", lead=f"{step}: ", lead_style="yellow")
    for each in found.head(MOST_PROMPTS).iter_rows(named=True):
        more = f" and {each['prompts'] - 1:,} more" if each["prompts"] > 1 else ""
        entry(f"{one_line(each['reason'] or each['reason_code'], 200)} (row {each['row_id']}{more})", indent=2)
    if found.height > MOST_PROMPTS:
        entry(f"… {found['prompts'][MOST_PROMPTS:].sum():,} more", indent=2)


@contextlib.contextmanager
def telling_rows(quiet: bool) -> Iterator[Callable[[int, float], None]]:
    """In a terminal a line that says how far `apply` is: rows done, and the share of the file."""
    if quiet or not sys.stderr.isatty():
        yield lambda _rows, _share: None
        return
    from rich.console import Console

    with Console(stderr=True, highlight=False).status("reading") as status:
        yield lambda rows, share: status.update(f"{rows:,} rows, {100 * share:.0f} %")
