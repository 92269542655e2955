"""What the commands that keep a warehouse print: differences, what gc takes, what fsck finds, exports."""

from __future__ import annotations

import json as jsons
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from factory.lines import entry, fields, one_line, print_json, size, table

if TYPE_CHECKING:
    from warehouse.upkeep.fsck import FsckReport
    from warehouse.upkeep.gc import GcReport
    from warehouse.upkeep.versions import Diff


def show_diff(found: Diff, rows: int, as_json: bool) -> None:
    """What came, what went, why, and what differs in how the two were made."""
    if as_json:
        print_json({"old": found.old, "new": found.new, "same_rows": found.same_rows,
                    "reasons": found.reasons.to_dicts(), "changed": found.changed, "rows": found.rows.to_dicts()})
        return
    added = found.rows["change"].eq("added").sum()
    entry(f"{found.old} → {found.new}: {found.same_rows:,} rows in both, {added:,} added, "
          f"{found.rows.height - added:,} removed", style="bold")
    if found.reasons.height:
        table(["change", "rows", "why the other lacks them"],
              [[change, f"{count:,}", _reason(gate, code)] for change, gate, code, count in found.reasons.iter_rows()],
              numbers=("rows",))
    if rows and found.rows.height:
        table(["change", "row_id", "reason"],
              [[change, str(row_id), one_line(reason or _reason(gate, code))]
               for change, row_id, gate, code, reason in found.rows.head(rows).iter_rows()])
        if found.rows.height > rows:
            print(f"… {found.rows.height - rows:,} more rows; use -n or --json for all")
    fields([(name, f"{_short(then)} → {_short(now)}") for name, (then, now) in found.changed.items()
            if name not in ("fingerprint", "content_hash")])


def _short(value: object) -> str:
    """A value in half a line; of inputs the number of those that are not shown."""
    text = ", ".join(map(str, value)) if isinstance(value, list) else one_line(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _reason(gate: str | None, code: str | None) -> str:
    return ": ".join(part for part in (gate, code) if part) or "never offered to it"


def show_gc(report: GcReport, as_json: bool) -> None:
    """What is listed, what went, what stays and why."""
    if as_json:
        print_json(report.model_dump())
        return
    head = "would be deleted now" if report.dry_run else "deleted"
    for title, tallies in ((head, report.deleted), ("not needed, waiting for the grace period", report.listed)):
        total = sum(tally.count for tally in tallies.values())
        entry(f"{title}: {total:,} files, {size(sum(tally.bytes for tally in tallies.values()))}", style="bold")
        if total:
            table(["kind", "files", "size"], [[kind, f"{t.count:,}", size(t.bytes)] for kind, t in tallies.items()],
                  numbers=("files", "size"), indent=2)
    if report.kept:
        table(["needed by", "files"], [[reason, f"{count:,}"] for reason, count in report.kept.items()],
              numbers=("files",))
    if report.next_act:
        print(report.next_act)


def show_fsck(report: FsckReport, as_json: bool, quick: bool = False) -> None:
    """Each damage with its place and what to do, then the notes and what was checked."""
    if as_json:
        print_json(report.model_dump())
        return
    for note in report.notes:
        entry(f"note: {note.kind}: {note.what}" + (f" ({note.next_act})" if note.next_act else ""))
    for done in report.repaired:
        print(f"repaired: {done}")
    for found in report.damage:
        entry(f"{found.kind}: {found.what}", style="bold red")
        fields([("where", found.where), ("expected", found.expected), ("found", found.found), ("next", found.next_act)])
    checked = ", ".join(f"{count:,} {what}" for what, count in report.checked.items())
    clean = "clean, bytes and rows not looked at" if quick else "clean"
    entry(f"{clean if not report.damage else f'{len(report.damage):,} damaged'}: checked {checked or 'nothing'}",
          style="bold green" if not report.damage else "bold red")


def show_export(receipt: Any, as_json: bool) -> None:
    """Where an export went."""
    found = receipt if isinstance(receipt, dict) else {name: getattr(receipt, name) for name in receipt.__slots__}
    if as_json:
        print_json(found)
    else:
        fields([(name, one_line(value)) for name, value in found.items()])


def write_lines(objects: Iterable[dict[str, Any]], output: Path | None) -> None:
    """One JSON object a line, to a file or the screen."""
    lines = (jsons.dumps(found, ensure_ascii=False) for found in objects)
    if output is None:
        for line in lines:
            print(line)
        return
    with open(output, "w", encoding="utf-8") as file:
        count = sum(bool(file.write(line + "\n")) for line in lines)
    print(f"{count:,} events written to {output}")
