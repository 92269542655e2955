"""The whole measure of a batch of texts, compiled."""

from __future__ import annotations

from typing import Any

import numpy as np

from factory.text.jit import inlined, kernel

from .charset import LAST_LANE
from .labels import label_lanes, label_words, look_up
from .scan import scan_text
from .tally import GOOD, MAIN, MARGIN, SENTENCES, TARGET, WORDS, count_sentences, count_words

ENGLISH = 1
"""The number of English."""
CERTAIN = 10000


@inlined
def _is_accepted(accepted: Any, text: Any, first: Any) -> Any:
    at, high = 0, len(accepted)
    while at < high:
        middle = (at + high) // 2
        if accepted[middle, 0] < text:
            at = middle + 1
        else:
            high = middle
    while at < len(accepted) and accepted[at, 0] == text:
        if accepted[at, 1] == first:
            return True
        at += 1
    return False


@inlined
def _apply_runs(text: Any, runs: Any, found: Any, words: Any, numbers: Any, accepted: Any, high: Any, label: Any,
                doubts: Any, asked: Any) -> Any:
    """Give the words of foreign runs their language; doubtful runs go to `doubts`. How many doubts there are now."""
    start, stop, script = words[0], words[1], words[3]
    for run in range(found):
        first, last = runs[run, 0], runs[run, 1]
        language = numbers[script[first], runs[run, 2]]
        if runs[run, 3] >= high or _is_accepted(accepted, text, first):
            for w in range(first, last + 1):
                label[w] = language if script[w] == script[first] else label[w]
            continue
        if asked < len(doubts):
            doubts[asked, 0], doubts[asked, 1], doubts[asked, 2] = text, first, start[first]
            doubts[asked, 3], doubts[asked, 4] = stop[last], language
        asked += 1
    return asked


@inlined
def _main_of(label: Any, count: Any, votes: Any) -> Any:
    """The language of most words, the lowest number of several; -1 without words."""
    for one in range(len(votes)):
        votes[one] = 0
    main = label[0] if count else -1
    for w in range(count):
        votes[label[w]] += 1
    for one in range(len(votes)):
        if count and (votes[one] > votes[main] or (votes[one] == votes[main] and one < main)):
            main = one
    for one in range(len(votes)):
        votes[one] = 0
    return main


@inlined
def _margin_of(totals: Any, seen: Any, lanes_of: Any, in_script: Any) -> Any:
    """By how much a language's lane is ahead of the next (or behind the best) in the scripts it is written in, summed
    over the text's words; CERTAIN where its script is its own."""
    margin, mates = 0, False
    for own in range(1, LAST_LANE + 1):
        if seen[own] == 0 or in_script[own] < 0:
            continue
        best, mates = np.int64(-1 << 40), True
        for lane in range(lanes_of[own]):
            if lane != in_script[own]:
                best = max(best, np.int64(totals[own, lane]))
        margin += totals[own, in_script[own]] - best
    return margin if mates else CERTAIN


@inlined
def _is_plain(seen: Any, count: Any, in_script: Any) -> Any:
    """Whether all words are of one script, in which the target has a lane."""
    for own in range(1, LAST_LANE + 1):
        if seen[own] == count and in_script[own] >= 0:
            return count > 0
    return False


@inlined
def _fill_plain(sentence: Any, count: Any, target: Any, fields: Any, by_word: Any, by_sentence: Any) -> Any:
    """The fields of a text all of whose words are in the target language."""
    sentences = 1
    for w in range(1, count):
        sentences += sentence[w] != sentence[w - 1]
    fields[WORDS] = fields[GOOD] = by_word[target] = count
    fields[SENTENCES] = by_sentence[target] = sentences
    fields[MAIN] = fields[TARGET] = target


@kernel
def measure_batch(data: Any, begins: Any, ends: Any, targets: Any, accepted: Any, low: Any, high: Any, chars: Any,
                  model: Any, common: Any, lanes_of: Any, numbers: Any, lane_of: Any,
                  owner: Any, japanese: Any, chinese: Any, work: Any, fields: Any, by_word: Any, by_sentence: Any,
                  doubts: Any) -> Any:
    """Measure text i = `data[begins[i]:ends[i]]` against language `targets[i]` (-1: its own main language).

    `fields` (int64[n, 12]), `by_word` and `by_sentence` (int32[n, languages]) must hold zeros. Runs with a peak of
    `high` or more are foreign, those from `low` up to it only if `accepted` (int64[?, 2]: text, first word; sorted)
    names them; the others go to `doubts` (int64[?, 5]: text, first word, start, stop, language). Returns how many
    doubts there were, of which those that fit are stored. `work`: arrays for the words of one text after another.
    """
    words, out, label, runs, odds, sums, votes, seen, main, recent, ahead = work
    script, sentence, asked = words[3], words[5], 0
    for own in range(len(owner)):
        main[own] = owner[own]
    for i in range(len(begins)):
        begin, target = begins[i], targets[i]
        count = scan_text(data, begin, ends[i], chars, words, ahead)
        look_up(data, begin, count, words, chars, model, lanes_of, lane_of[target], out, seen)
        found = label_lanes(data, begin, words, count, seen, model, chars, common, out, lanes_of, numbers,
                            lane_of[target], target > 0, low, high, odds, sums, recent, runs, main)
        row = fields[i]
        if found == 0 and _is_plain(seen, count, lane_of[target]):
            _fill_plain(sentence, count, target, row, by_word[i], by_sentence[i])
            continue
        label_words(script, sentence, count, main, chinese, japanese, target, label)
        asked = _apply_runs(i, runs, found, words, numbers, accepted, high, label, doubts, asked)
        row[MAIN] = _main_of(label, count, votes)
        if target < 0:
            target = row[MAIN]
            row[MARGIN] = _margin_of(out[1], seen, lanes_of, lane_of[target])
        row[TARGET] = target
        row[SENTENCES] = count_sentences(sentence, label, count, target, votes, by_sentence[i])
        count_words(words, label, count, target, lane_of[target], ENGLISH, common, out[0], row, by_word[i])
    return asked
