"""One greedy pass over rows in the order of their waves, a wave at a time.

A row goes when its Jaccard index with a row that stays before it reaches the threshold: with a row to compare with
(wave -1), with one of an earlier wave, or with an earlier one of its own wave by (row_key, row_id). So only rows that
stay are compared with. Of a wave the keys are looked up among those of the rows that stay, which are streamed and never
sorted; of a key that more than 256 of these have, the 256 first are compared.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from factory.dedup.near.candidates import WIDTH, Pairs, _emit, distinct
from factory.dedup.near.components import judge_greedily
from factory.dedup.near.rows import I64, Rows, band_keys_of
from factory.dedup.near.search import (
    FEW,
    Settings,
    add_scopes,
    find_nodes,
    measure_pairs,
    scope_sizes,
    scratch_of,
)
from factory.dedup.near.sketches import most_differing
from factory.dedup.near.spill import Spill
from factory.dedup.near.wanted import entries_among
from factory.engine.gathered import Gathered
from factory.text.jit import kernel
from factory.text.words import mix

Bools = npt.NDArray[np.bool_]
_MOST = 256


class Judged(NamedTuple):
    """By number: whether a row stays, else (-1 where it does) the row that stays in its place, and their Jaccard
    index."""

    kept: Bools
    partner: I64
    jaccard: npt.NDArray[np.float64]


@kernel
def meeting_pairs(keys: Any, rows: Any, first: int, content: Any, sizes: Any, sketches: Any, floor: float, most: int,
                  width: int, out: Any) -> tuple[int, int]:
    """(pairs found, pairs skipped) of new rows, numbered from `first` on, with one another and with earlier ones."""
    found: Any = 0
    skipped: Any = 0
    begin = 0
    while begin < len(keys):
        end = begin + 1
        while end < len(keys) and keys[end] == keys[begin]:
            end += 1
        bucket = np.sort(rows[begin:end])
        old: Any = np.searchsorted(bucket, first)
        new = len(bucket) - old
        taken = min(old, _MOST)
        if new:
            skipped += new * (old - taken)
            for i in range(old, len(bucket)):
                for j in range(taken):
                    found = _emit(bucket[j], bucket[i], sizes, sketches, floor, most, out, found)
        if new <= 2 * width + 1:
            for i in range(old, len(bucket)):
                for j in range(i + 1, len(bucket)):
                    found = _emit(bucket[i], bucket[j], sizes, sketches, floor, most, out, found)
        else:
            mixed = np.empty(new, np.uint64)
            for i in range(new):
                mixed[i] = mix(content[bucket[old + i]] ^ keys[begin])
            order = np.argsort(mixed)
            for i in range(new):
                for step in range(1, width + 1):
                    one, two = bucket[old + order[i]], bucket[old + order[(i + step) % new]]
                    found = _emit(one, two, sizes, sketches, floor, most, out, found)
            skipped += new * (new - 1) // 2 - new * width
        begin = end
    return found, skipped


def judge_waves(gathered: Gathered, rows: Rows, before: Judged, settings: Settings) -> tuple[Judged, int]:
    """Judge the waves that are not settled, in order; `settings.floor` is the threshold.

    Args:
        rows: numbered by wave.
        before: verdicts on settled rows, and on those of wave -1, which stay; `kept` False elsewhere. Changed in place.

    Returns:
        the verdicts, and how many pairs of too common keys were left out.
    """
    same, skipped = find_nodes(rows), 0
    for wave in np.unique(rows.waves[~rows.settled & (rows.waves >= 0)]).tolist():
        begin, end = (int(at) for at in np.searchsorted(rows.waves, [wave, wave + 1]))
        staying = np.flatnonzero(before.kept[:begin])
        first = np.full(rows.total, -1, np.int64)
        first[same[staying[::-1]]] = staying[::-1]
        mine = np.arange(begin, end)
        twin = first[same[mine]]
        heads = np.zeros(rows.total, np.bool_)
        heads[mine[twin < 0]] = _first_of(same[mine[twin < 0]])
        skipped += _judge_wave(gathered, rows, before, heads, (begin, end), settings)
        _copy_verdicts(before, same, mine, twin, heads)
    return before, skipped


def _first_of(groups: I64) -> Bools:
    _, at = np.unique(groups, return_index=True)
    marks = np.zeros(len(groups), np.bool_)
    marks[at] = True
    return marks


def _judge_wave(gathered: Gathered, rows: Rows, judged: Judged, heads: Bools, wave: tuple[int, int],
                settings: Settings) -> int:
    """Judge the rows of a wave that are the first with their shingle set."""
    begin, end = wave
    staying = judged.kept.copy()
    staying[begin:] = False
    pairs = Pairs(scratch_of(gathered, "wave"), rows.total, settings.buffer)
    with Spill(scratch_of(gathered, "wave"), settings.buffer) as spill:
        wanted = [np.zeros(0, np.uint64)]
        few = heads.sum() * settings.bands <= settings.buffer
        for keys, numbers in band_keys_of(gathered, rows, heads, settings.bands):
            spill.add(keys, numbers)
            if few:
                wanted.append(keys.reshape(-1))
        old = band_keys_of(gathered, rows, staying, settings.bands)
        if few:
            for met in entries_among(old, distinct(np.concatenate(wanted))):
                spill.add_entries(*met)
        else:
            for keys, numbers in old:
                spill.add(keys, numbers)
        del wanted
        both = heads | staying
        touched = np.isin(rows.scopes, rows.scopes[heads])
        add_scopes(spill, rows, both & touched & (scope_sizes(rows, both) <= FEW))
        content, most = np.ascontiguousarray(rows.set_hash[:, 0]), most_differing(settings.floor)
        out = np.empty(1 << 16, np.uint64)
        for keys, numbers in spill.ranges():
            given = (keys, numbers, begin, content, rows.sizes, rows.sketches, settings.floor, most, WIDTH)
            found, skipped = meeting_pairs(*given, out)
            if found > len(out):
                out = np.empty(found, np.uint64)
                meeting_pairs(*given, out)
            pairs.add(out[:found])
            pairs.skipped += int(skipped)
    near = measure_pairs(gathered, rows, pairs, settings)
    judged.kept[begin:end] = heads[begin:end]
    partner, jaccard = judge_greedily(judged.kept[:end], begin, near.left, near.right, near.jaccard)
    judged.partner[begin:end], judged.jaccard[begin:end] = partner, jaccard
    return pairs.skipped


def _copy_verdicts(judged: Judged, same: I64, mine: I64, twin: I64, heads: Bools) -> None:
    """Rows with the shingle set of one that stays go for it; others of the wave share the verdict on the first."""
    known = twin >= 0
    judged.partner[mine[known]], judged.jaccard[mine[known]] = twin[known], 1.0
    head_of = np.full(len(same), -1, np.int64)
    numbers = np.flatnonzero(heads)
    head_of[same[numbers]] = numbers
    copies = mine[~known & ~heads[mine]]
    head = head_of[same[copies]]
    stays = judged.kept[head]
    judged.partner[copies] = np.where(stays, head, judged.partner[head])
    judged.jaccard[copies] = np.where(stays, 1.0, judged.jaccard[head])
