"""Finding ops: those of this project, and plugins that announce themselves by entry point.

A plugin distribution lists modules under the entry-point group `dataset_factory.ops`; importing the module runs its
`@op` decorators.
"""

from __future__ import annotations

import importlib
from functools import cache
from importlib.metadata import entry_points

BUILTIN = (
    "factory.sources.files", "factory.sources.hub", "factory.sources.procedural", "factory.sources.warehouse",
    "factory.generators.sample",
    "factory.verifiers.math", "factory.verifiers.gym", "factory.verifiers.format", "factory.verifiers.choice",
    "factory.verifiers.code", "factory.verifiers.code_tests.inputs", "factory.verifiers.code_tests.filter",
    "factory.verifiers.combine", "factory.verifiers.judge", "factory.verifiers.preference",
    "factory.filters.language", "factory.filters.length", "factory.filters.code_blocks", "factory.filters.repetition",
    "factory.filters.paragraphs", "factory.filters.structure",
    "factory.filters.reasoning", "factory.filters.pii", "factory.filters.render",
    "factory.dedup.exact", "factory.dedup.minhash", "factory.dedup.incremental", "factory.dedup.decontaminate",
    "factory.selection.rejection", "factory.selection.mix", "factory.selection.preference",
    "factory.training.sft", "factory.training.grpo", "factory.training.evaluate", "factory.training.gate",
    "factory.publish.folder", "factory.publish.page",
)
"""Modules whose import registers an op. They import heavy libraries only when the op runs."""


@cache
def load_builtin_ops() -> None:
    """Import every op module once."""
    for module in BUILTIN:
        importlib.import_module(module)
    for plugin in entry_points(group="dataset_factory.ops"):
        plugin.load()
