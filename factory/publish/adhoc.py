"""Publishing a version by hand: what `factory publish NAME --to dir:PATH` does, outside any recipe."""

from __future__ import annotations

import shutil
import uuid
from typing import Any

from factory.engine.errors import DataError, UsageError
from factory.engine.op import Job, OpContext
from factory.publish.folder import FolderParams, publish_folder
from warehouse import Warehouse
from warehouse.records import Manifest


def publish_version(warehouse: Warehouse, ref: str, to: str, config: str = "default") -> dict[str, Any]:
    """Write a version of rows or a selection to `dir:PATH`.

    Raises:
        UsageError: an unknown kind of destination. DataError: the version holds no rows to publish.
    """
    kind, _, path = to.partition(":")
    if kind != "dir" or not path:
        raise UsageError(f"--to {to}: write dir:PATH")
    dataset = warehouse.dataset(ref)
    if dataset.kind not in ("rows", "selection"):
        raise DataError(f"{dataset.ref} is a {dataset.kind} version and has no rows of its own: publish the dataset it "
                        "is about, or a selection of it")
    manifest = dataset.manifest
    above = _ancestors(warehouse, manifest)
    text = next((start.recipe_text for start, _, _ in warehouse.runs() if start.run_id == manifest.run_id), "")
    workdir = warehouse.store.scratch() / uuid.uuid4().hex
    workdir.mkdir(parents=True)
    try:
        job = Job(inputs={manifest.step: dataset.scan()}, refs={manifest.step: dataset.ref}, workdir=workdir, facts={
            "recipe": manifest.recipe, "recipe_text": text, "content_hash": manifest.content_hash,
            "license": manifest.license, "models": sorted({m.facts["model"] for m in above if m.facts.get("model")}),
            "funnel": [{"step": m.step, **m.counts.model_dump()} for m in above]})
        receipt: dict[str, Any] = publish_folder(job, FolderParams(to=path, config=config), OpContext(step="publish"))
        return receipt
    finally:
        shutil.rmtree(workdir, ignore_errors=True)
        warehouse.store.clear_scratch()


def _ancestors(warehouse: Warehouse, manifest: Manifest) -> list[Manifest]:
    """The version and all it was made from, sources first."""
    seen: dict[str, Manifest] = {}

    def visit(found: Manifest) -> None:
        for item in found.inputs:
            if item.ref not in seen:
                visit(warehouse.manifest(item.ref))
        seen[found.ref] = found

    visit(manifest)
    return list(seen.values())
