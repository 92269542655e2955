"""publish.page: a loop told in one HTML file that needs nothing else.

No script, no network, no font: the file forbids itself to load anything. Every text is escaped, whoever wrote it, and
characters that no HTML may hold are replaced. Equal inputs give equal bytes, so the page names versions, never the time
or the run. The file is written beside its destination and moved there whole.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

from pydantic import Field

from factory.engine.errors import DataError
from factory.engine.op import Job, Kind, OpContext, Params, op
from factory.publish.excerpts import Excerpt, clip, printable, sample
from factory.publish.folder import MARK
from factory.publish.story import Funnel, funnels, gates, judged_checkpoints, other_reports, trainings

GENERATOR = "dataset-factory publish.page"
_TEMPLATES = Path(__file__).parent / "templates"
_RECIPE_BYTES = 200_000


class PageParams(Params):
    """`to` is the file, from the folder where the command is run; `title` (None: the recipe's name) and `about` head
    it; `rows` of each dataset are shown."""

    to: str
    title: str | None = None
    about: str = ""
    rows: int = Field(default=5, ge=0, le=50)


@op("publish.page", version=1, kind=Kind.PUBLISH, params=PageParams)
def publish_page(job: Job, params: PageParams, ctx: OpContext) -> dict[str, Any]:
    """Write one HTML page about a loop: checkpoints, funnels, curves, gates, sample rows, the recipe.

    `from` takes train steps, evaluations, selections, rows and gates; the page keeps their order. Writing the same
    content again changes nothing. A file that this op did not write is refused.

    Returns:
        receipt: `path`, `rows` (checkpoints, or sample rows where there are none), `what` (the same in words), `files`
        {name: sha256}, `source` (ref of the first input).
    Raises:
        DataError: the destination is a folder, lies under a file or in a published folder, or is somebody else's.
    """
    target = Path(params.to).expanduser().absolute()
    _check_target(target)
    content = _gather(job, params, ctx)
    page = _render(content).encode("utf-8")
    if not target.is_file() or target.read_bytes() != page:
        _replace(target, page)
    checkpoints = len({line.checkpoint or line.name for line in content["judged"]})
    rows = sum(len(shown) for _, shown in content["excerpts"])
    count, noun = (checkpoints, "checkpoint") if checkpoints else (rows, "row")
    return {"path": str(params.to), "rows": count, "what": f"a page of {count:,} {noun}{'' if count == 1 else 's'}",
            "files": {target.name: hashlib.sha256(page).hexdigest()}, "source": next(iter(job.refs.values()))}


def _gather(job: Job, params: PageParams, ctx: OpContext) -> dict[str, Any]:
    """Everything the template shows."""
    flows = funnels(job)
    seen: set[int] = set()
    shown: list[tuple[Funnel, list[Excerpt]]] = [
        (flow, sample(job.inputs[flow.name], params.rows, len(flows), ctx.rank, seen)) for flow in flows]
    judged = judged_checkpoints(job)
    return {
        "title": params.title or job.facts["recipe"], "about": params.about, "recipe": job.facts["recipe"],
        "models": job.facts.get("models") or [], "license": job.facts.get("license") or [], "judged": judged,
        "charted": [line for line in judged if "accuracy" in line.figures],
        "problems": " and ".join(f"{count:,}" for count in sorted({int(line.figures["problems"]) for line in judged
                                                                   if "problems" in line.figures})),
        "several": len({line.checkpoint for line in judged}) < len(judged), "reports": other_reports(job),
        "funnels": flows, "trainings": trainings(job), "gates": gates(job), "excerpts": shown,
        "recipe_text": clip(job.facts["recipe_text"], _RECIPE_BYTES), "refs": job.refs, "generator": GENERATOR,
    }


def _render(content: dict[str, Any]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(loader=FileSystemLoader(_TEMPLATES), autoescape=True, undefined=StrictUndefined,
                              finalize=_printable, trim_blocks=True, lstrip_blocks=True)
    return environment.get_template("page.html").render(content)


def _printable(value: Any) -> Any:
    """Every text of the page but markup of its own."""
    return printable(value) if isinstance(value, str) and not hasattr(value, "__html__") else value


def _check_target(target: Path) -> None:
    blocked = next((folder for folder in target.parents if folder.exists() and not folder.is_dir()), None)
    if blocked is not None:
        raise DataError(f"{target} cannot be made: {blocked} is a file; name another folder")
    owner = next((folder for folder in target.parents if (folder / MARK).is_file()), None)
    if owner is not None:
        raise DataError(f"{target} lies in {owner}, which publish.folder replaces as a whole: name a place beside it")
    if target.is_dir():
        raise DataError(f"{target} is a folder: name a file, such as {target / 'page.html'}")
    if target.exists():
        with open(target, "rb") as file:
            head = file.read(2_000)
        if head and GENERATOR.encode() not in head:
            raise DataError(f"{target} exists and was not written by publish.page: name another file, or remove it")


def _replace(target: Path, page: bytes) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.new-{os.getpid()}")
    try:
        fresh.write_bytes(page)
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)
