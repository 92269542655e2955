"""The shape of every row's response: tags, parts, control tokens, copied prompts, refusals, cut ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from factory.text.buffers import TextBuffers
from factory.text.jit import kernel
from factory.text.tables import load_tables

from . import controls, openings
from .parts import Ints, Parts
from .spans import char_counts, skip_space

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Structure:
    """Per row. `marks` (rows, 6) counts controls.NAMES in the whole response, `mark_places` (rows, 6, 2) are the first
    of each. `before_chars`: characters before a `<think>` that are not white space to the last. `*_empty`: the part is
    there and holds nothing but white space; a missing part is told by `Parts`. `refusal_at`, `system_at`, `copied_at`:
    byte places in the spans' data or -1. `copied_chars`: how much of the prompt's beginning the answer begins with, and
    `copied_share` of the prompt. `open_end`: the response ends with a sign that ends no text."""

    marks: Ints
    mark_places: Ints
    before_chars: Ints
    thinking_empty: Flags
    answer_empty: Flags
    refusal_at: Ints
    system_at: Ints
    copied_chars: Ints
    copied_share: npt.NDArray[np.float64]
    copied_at: Ints
    open_end: Flags


@kernel
def _first_chars(data: Ints, begins: Ints, stops: Ints, classes: Ints) -> Ints:
    """The first place of each span that is no white space."""
    firsts = np.empty(len(begins), np.int64)
    for row in range(len(begins)):
        firsts[row] = skip_space(data, begins[row], stops[row], classes) if begins[row] >= 0 else -1
    return firsts


def measure_structure(parts: Parts, prompts: TextBuffers | None = None) -> Structure:
    """Everything about the shape of each response; nothing is copied from a prompt where `prompts` is None."""
    whole, rows, classes = parts.whole, len(parts.whole.starts), load_tables().classes
    marks, places = np.empty((rows, len(controls.NAMES)), np.int64), np.empty((rows, len(controls.NAMES), 2), np.int64)
    controls.mark_rows(whole.data, whole.starts, whole.ends, controls.PATTERNS, controls.BOUNDS, marks, places)
    opened = places[:, 0, 0].copy()
    first = _first_chars(whole.data, whole.starts, np.maximum(opened, whole.starts), classes)
    before = char_counts(whole.data, np.where(opened > first, first, -1), opened)
    empty = [(part.starts >= 0) & (_first_chars(part.data, part.starts, part.ends, classes) >= part.ends)
             for part in (parts.thinking, parts.answer)]
    copied, share, copied_at = _copied(parts, prompts)
    system = [openings.find_opening(part, openings.SYSTEM) for part in (parts.thinking, parts.answer)]
    return Structure(
        marks, places, before, empty[0], empty[1], openings.find_opening(parts.answer, openings.REFUSAL),
        np.where(system[0] >= 0, system[0], system[1]), copied, share, copied_at, openings.measure_open_ends(whole))


def _copied(parts: Parts, prompts: TextBuffers | None) -> tuple[Ints, npt.NDArray[np.float64], Ints]:
    """(characters, share of the prompt, byte place) of the prompt's beginning in the answer's."""
    answer, rows = parts.answer, len(parts.whole.starts)
    found = np.tile(np.array([0, -1]), (rows, 1))
    if prompts is None:
        return found[:, 0].copy(), np.zeros(rows), found[:, 1].copy()
    openings.copied_rows(answer.data, answer.starts, answer.ends, prompts.data, prompts.offsets,
                         load_tables().classes, found)
    size, place = found[:, 0].copy(), found[:, 1].copy()
    chars = char_counts(answer.data, place, place + size)
    whole = char_counts(prompts.data, prompts.offsets[:-1], prompts.offsets[1:])
    return chars, chars / np.maximum(whole, 1), place
