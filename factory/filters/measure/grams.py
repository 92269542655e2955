"""Gopher's n-gram statistics of one text, compiled: Rae et al. 2021 (arXiv 2112.11446), appendix A.1.1, table A1.

The paper leaves room; the rules are those of datatrove 0.10.1 (`GopherRepetitionFilter`), to the last digit for the
same words. With T the characters of the whole text, white space included:

- `top_n` (n = 2, 3, 4): (characters of the most frequent n-gram, its words joined by single spaces) x (times it occurs,
  overlapping) / T; of equally frequent ones the first to appear. A text whose n-grams all differ has its first one.
- `dup_n` (n = 5 … 10): a walk from the left; an n-gram (its words put together without spaces) met before on the walk
  counts its characters and is stepped over, any other is remembered and the walk goes on by one word.

A text of fewer than n words has 0. Words and n-grams are compared by 64-bit hashes, lines likewise: two different
n-grams of a text of 10,000 words are taken for one with probability below 10^-11.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from factory.text.jit import kernel
from factory.text.words import mix

from .keys import table_size
from .tokens import gram_hash

TOP, DUP = (2, 3, 4), (5, 6, 7, 8, 9, 10)
_ODD, _1 = np.uint64(0xD1B54A32D192ED03), np.uint64(1)


@kernel
def top_gram(keys: Any, count: int, live: Any, slots: Any, first: Any, times: Any) -> Any:
    """(index of the first word, times) of the most frequent of `count` n-grams given by their hashes. Only those with
    `live` are looked at; afterwards `live` tells which of them occur twice or more.

    A slot holds the place + 1 of an n-gram, not its hash: half the memory, so that the table of a usual text stays in
    the first-level cache."""
    alive = np.int64(0)
    for word in range(np.uint64(count)):
        alive += live[word]
    size = table_size(alive)
    slots[:size] = 0
    bits, best, most = np.uint64(size - 1), np.int64(0), np.int64(1)
    for word in range(np.uint64(count)):
        if not live[word]:
            continue
        place = keys[word] & bits
        while slots[place] != 0 and keys[np.uint64(slots[place] - 1)] != keys[word]:
            place = (place + np.uint64(1)) & bits
        if slots[place] == 0:
            slots[place] = word + _1
            first[word], times[word] = word, 1
            continue
        origin = np.int64(slots[place] - 1)
        first[word] = origin
        times[origin] += 1
        if times[origin] > most or (times[origin] == most and origin < best):
            best, most = origin, np.int64(times[origin])
    for word in range(np.uint64(count)):
        live[word] = live[word] and times[np.uint64(first[word])] > 1
    return best, most


@kernel
def top_chars(chars: Any, sums: Any, scale: Any, words: int, keys: Any, live: Any, slots: Any, first: Any, times: Any,
              values: Any, found: Any) -> None:
    """Characters of the top 2-, 3- and 4-gram into `values[0:3]`, (first word, words) of each into `found`. An n-gram
    occurs twice only if both (n-1)-grams in it do, so the others are not looked at."""
    for word in range(np.uint64(words)):
        keys[word] = gram_hash(sums, scale, word, _1)
        live[word] = True
    for n in range(2, 5):
        count = words - n + 1
        if count < 1:
            break
        last = np.uint64(n - 1)
        for word in range(np.uint64(count)):  # without a branch, so that it is vectorised; order and word borders count
            live[word] = live[word] & ((n == 2) | live[word + np.uint64(1)])
            keys[word] = mix(keys[word] * _ODD + gram_hash(sums, scale, word + last, _1))
        best, most = top_gram(keys, count, live, slots, first, times)
        values[n - 2] = (chars[best + n] - chars[best] + n - 1) * most
        if most > 1:
            found[n - 2, 0], found[n - 2, 1] = best, n


@kernel
def dup_chars(chars: Any, sums: Any, scale: Any, words: int, keys: Any, slots: Any, values: Any, found: Any) -> None:
    """Characters of the duplicated 5- to 10-grams into `values[3:9]`, the first duplicate of each into `found`."""
    for n in range(5, 11):
        count = words - n + 1
        if count < 1:
            break
        size = table_size(count)
        slots[:size] = 0
        bits, word, total = np.uint64(size - 1), np.int64(0), np.int64(0)
        for each in range(np.uint64(count)):  # hashing apart from looking up, so that it is vectorised
            keys[each] = gram_hash(sums, scale, each, np.uint64(n))
        while word < count:
            key = keys[np.uint64(word)]
            place = key & bits
            while slots[place] != 0 and keys[np.uint64(slots[place] - 1)] != key:
                place = (place + np.uint64(1)) & bits
            if slots[place] == 0:
                slots[place] = word + 1
                word += 1
                continue
            if total == 0:
                found[n - 2, 0], found[n - 2, 1] = word, n
            total += chars[word + n] - chars[word]
            word += n
        values[n - 2] = total
