"""Counting the labelled words of a text."""

from __future__ import annotations

from typing import Any

from factory.text.jit import inlined

from .charset import FIRST_SPACELESS, LAST_LANE, LAST_SPACELESS, LATIN
from .scan import CAPITAL

WORDS, GOOD, SENTENCES, SWITCHES, FOREIGN, RUN_WORDS, RUN_START, RUN_STOP, RUN_LANGUAGE, MAIN, TARGET, MARGIN = (
    range(12))
FIELDS = 12
SPACELESS_SENTENCE, SPACED_SENTENCE, MATE_SENTENCE = 6, 3, 4
LATIN_SENTENCE, LATIN_COMMON = 5, 2
SHORT_SENTENCE, SHORT_LATIN = 4, 3
"""Least of a stretch that fills a sentence: words count 2, characters of a script without spaces 1; English words."""


@inlined
def is_sentence(spaceless: Any, spaced: Any, mates: Any, latin: Any, common: Any) -> Any:
    """Whether a stretch of foreign words is as long as a sentence: 6 characters of a script without spaces, 3 words, 4
    words of the target's own script, or
    in a text of another script 5 English words without a capital, of which 2 function words (so terms and names are
    none)."""
    return (spaceless >= SPACELESS_SENTENCE or spaced >= SPACED_SENTENCE
            or mates >= MATE_SENTENCE or (latin >= LATIN_SENTENCE and common >= LATIN_COMMON))


@inlined
def count_sentences(sentence: Any, label: Any, count: Any, target: Any, votes: Any, languages: Any) -> Any:
    """Number of sentences with words; `languages[l]` those whose words are mostly in l (the target wins a tie)."""
    i = sentences = 0
    while i < count:
        stop, best = i, label[i]
        while stop < count and sentence[stop] == sentence[i]:
            votes[label[stop]] += 1
            more = votes[label[stop]] - votes[best]
            if more > 0 or (more == 0 and label[stop] == target):
                best = label[stop]
            stop += 1
        for at in range(i, stop):
            votes[label[at]] = 0
        languages[best] += 1
        sentences, i = sentences + 1, stop
    return sentences


@inlined
def fills_sentence(label: Any, script: Any, flags: Any, sentence: Any, count: int, at: int, target: int, latin: Any,
                   english: int, common: Any, rows_at: Any) -> Any:
    """Whether the words of the sentence that begins at word `at` are all foreign, and enough for a short sentence: two
    words, four characters of a script without spaces, or three English words in a text of another script, two of them
    function words."""
    weight = borrowed = frequent = 0
    i = at
    while i < count and sentence[i] == sentence[at]:
        if label[i] == target:
            return False
        own = script[i]
        if label[i] == english and own == LATIN and latin < 0:
            borrowed += 1
            frequent += rows_at[i] >= 0 and common[max(rows_at[i], 0)] > 0
        else:
            weight += 1 if FIRST_SPACELESS <= own <= LAST_SPACELESS else 2
        i += 1
    return weight >= SHORT_SENTENCE or (borrowed >= SHORT_LATIN and frequent >= LATIN_COMMON)


@inlined
def count_words(words: Any, label: Any, count: int, target: Any, in_script: Any, english: int, common: Any,
                rows_at: Any, fields: Any, languages: Any) -> None:
    """Fill the fields that come from single words, and the words by language."""
    start, stop, script, flags, sentence = words[0], words[1], words[3], words[4], words[5]
    length = first = spaceless = spaced = mates = latin = frequent = 0
    whole = False
    for i in range(count + 1):
        if i == count or label[i] == target:
            if length and (whole or is_sentence(spaceless, spaced, mates, latin, frequent)):
                fields[FOREIGN] += 1
            whole = False
            length = spaceless = spaced = mates = latin = frequent = 0
            if i == count:
                break
            fields[GOOD] += 1
        else:
            if length == 0:
                first = i
            length += 1
            own = script[i]
            if not whole and (i == 0 or sentence[i] != sentence[i - 1]):
                whole = fills_sentence(label, script, flags, sentence, count, i, target, in_script[LATIN], english,
                                       common, rows_at)
            if FIRST_SPACELESS <= own <= LAST_SPACELESS:
                spaceless += 1
            elif label[i] == english and own == LATIN and in_script[LATIN] < 0:
                latin += flags[i] & CAPITAL == 0
                frequent += rows_at[i] >= 0 and common[max(rows_at[i], 0)] > 0
            elif own <= LAST_LANE and in_script[own] >= 0:
                mates += 1
            else:
                spaced += 1
            if length > fields[RUN_WORDS]:
                fields[RUN_WORDS], fields[RUN_START], fields[RUN_STOP] = length, start[first], stop[i]
                fields[RUN_LANGUAGE] = label[first]
        languages[label[i]] += 1
        fields[SWITCHES] += i > 0 and label[i] != label[i - 1]
    fields[WORDS] = count
