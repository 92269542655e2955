"""Shingles, signatures, bands and sketches against plain Python and datasketch."""

from __future__ import annotations

import hashlib
import itertools
import re
import struct

import numpy as np
import polars as pl
import pytest
from datasketch import MinHash
from hypothesis import given, settings
from hypothesis import strategies as st

from factory.dedup.near.bands import band_keys
from factory.dedup.near.measures import Measures, measure_texts, to_columns, words_of
from factory.dedup.near.sha1 import sha1_shingles
from factory.dedup.near.shingle import LENGTH, PRIME, SALT, SIGNS, shingle_texts
from factory.dedup.near.signatures import sign
from factory.dedup.near.sketches import most_differing, sketch
from factory.text.buffers import TextBuffers, text_buffers
from factory.text.tables import MARK_RANGES, SPACELESS_RANGES, load_tables
from factory.text.words import BASIS, STEP, hash_word

TOKEN = re.compile(rf"[{SPACELESS_RANGES}]|(?:[^\W{SPACELESS_RANGES}]|[{MARK_RANGES}])+")
MASK = (1 << 64) - 1
ODD = ["", " ", "a", "\x00", "!?", " ! \u3000", "$\\frac{}{}$", "👩‍👩‍👧‍👦", "\u200b", "שלום",
       "a b c d e f a b c d e f", "你好世界你好世界"]
WORDS = st.sampled_from(["a", "B", "cat", "你", "İx", "ΣΑΣ", "e\u0301", "x_1", "\u0e01", "word" * 20, "\U0001d7ce",
                         "ß"])
TEXT = st.one_of(st.sampled_from(ODD), st.text(st.characters(exclude_categories=["Cs"]), max_size=60),
                 st.lists(WORDS, max_size=25).map(" ".join), st.lists(WORDS, max_size=9).map(", ".join))
TEXTS = st.lists(TEXT, max_size=10)


def column(texts: list[str]) -> TextBuffers:
    return text_buffers(pl.Series(texts, dtype=pl.String))


def fingerprint(texts: TextBuffers) -> Measures:
    return measure_texts(texts, np.zeros(texts.rows, np.uint64), 25, 5, 5, "own")


def mix(value: int) -> int:
    value = ((value ^ (value >> 33)) * 0xFF51AFD7ED558CCD) & MASK
    value = ((value ^ (value >> 33)) * 0xC4CEB9FE1A85EC53) & MASK
    return value ^ (value >> 33)


def reference(text: str, ngram: int) -> set[int]:
    words = [hash_word(word) for word in TOKEN.findall(text)]
    if not words:
        value = int(BASIS)
        for char in text.strip():
            value = ((value ^ ord(char)) * int(STEP)) & MASK
        return {mix((value + int(SIGNS)) & MASK) or 1}
    size = min(ngram, len(words))
    found = set()
    for at in range(len(words) - size + 1):
        total = 0
        for word in words[at:at + size]:
            total = (total * int(PRIME) + word) & MASK
        found.add(mix((total + size * int(LENGTH)) & MASK) or 1)
    return found


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.integers(1, 7))
def test_shingles_are_the_definition(texts: list[str], ngram: int) -> None:
    shingles = shingle_texts(column(texts), ngram)
    for row, text in enumerate(texts):
        got = shingles.flat[shingles.offsets[row]:shingles.offsets[row + 1]].tolist()
        want = reference(text, ngram)
        assert len(got) == len(set(got))
        assert set(got) == want
        assert shingles.set_hash[row].tolist() == [sum(want) & MASK, sum(mix(one ^ int(SALT)) for one in want) & MASK]


@settings(max_examples=25, deadline=None)
@given(TEXTS, st.lists(st.integers(0, 10), max_size=3))
def test_any_cut_gives_the_same_fingerprints(texts: list[str], cuts: list[int]) -> None:
    whole = fingerprint(column(texts))
    edges = sorted({0, len(texts), *(min(cut, len(texts)) for cut in cuts)})
    parts = [fingerprint(column(texts[a:b])) for a, b in itertools.pairwise(edges)]
    for at, want in enumerate(whole):
        got = np.concatenate([part[at] for part in parts]) if parts else want
        assert np.array_equal(got, want)
    data, offsets = column(["before", *texts])
    assert np.array_equal(fingerprint(TextBuffers(data, offsets[1:])).keys, whole.keys)


@settings(max_examples=60, deadline=None)
@given(TEXTS, st.sampled_from([1, 125, 128]))
def test_signatures_are_datasketch_s(texts: list[str], num_perm: int) -> None:
    shingles, (hashes, ends) = shingle_texts(column(texts)), sha1_shingles(column(texts))
    own, other = sign(shingles.flat, shingles.offsets, num_perm), sign(hashes, ends, num_perm)
    lower = load_tables().lower
    for row, text in enumerate(texts):
        words = ["".join(chr(lower[ord(char)]) for char in word) for word in TOKEN.findall(text)]
        grams = [" ".join(words[at:at + 5]).encode() for at in range(max(len(words) - 5, 0) + 1)]
        theirs = MinHash(num_perm)
        theirs.update_batch(grams)
        assert np.array_equal(other[row], theirs.hashvalues)
        theirs = MinHash(num_perm, hashfunc=int)
        hashes_of_row = shingles.flat[shingles.offsets[row]:shingles.offsets[row + 1]]
        theirs.update_batch((hashes_of_row & np.uint64(0xFFFFFFFF)).tolist())
        assert np.array_equal(own[row], theirs.hashvalues)


@pytest.mark.parametrize("size", [0, 1, 54, 55, 56, 57, 63, 64, 65, 118, 119, 120, 127, 128, 129, 1000])
def test_sha1_of_every_padding(size: int) -> None:
    want = struct.unpack("<I", hashlib.sha1(b"x" * size).digest()[:4])[0]
    assert sha1_shingles(column(["X" * size]))[0].tolist() == [want]


def test_a_text_of_five_megabytes() -> None:
    texts = ["word " * 1_000_000, "".join(f"w{at} " for at in range(700_000)), "x" * 5_000_000, "你" * 1_700_000,
             "!" * 5_000_000]
    shingles = shingle_texts(column(texts))
    assert shingles.counts.tolist() == [1, 699_996, 1, 1, 1]
    assert fingerprint(column(texts)).sizes.tolist() == shingles.counts.tolist()


def test_scope_and_signature_make_a_key() -> None:
    signatures = np.arange(128, dtype=np.uint32).reshape(1, 128).repeat(3, axis=0)
    keys = band_keys(signatures, 25, 5, np.array([1, 1, 2], np.uint64))
    assert np.array_equal(keys[0], keys[1])
    assert not np.intersect1d(keys[0], keys[2]).size
    assert len(np.unique(keys[0])) == 25
    with pytest.raises(ValueError, match="130 permutations"):
        band_keys(signatures, 26, 5, np.zeros(3, np.uint64))


@given(TEXTS)
@settings(max_examples=20, deadline=None)
def test_measures_survive_their_columns(texts: list[str]) -> None:
    want = fingerprint(column(texts))
    found = dict(zip(("set_hash", "size", "sketch", "keys"), to_columns(want), strict=True))
    assert np.array_equal(words_of(found["set_hash"], 2), want.set_hash)
    assert np.array_equal(words_of(found["sketch"].slice(1), 4), want.sketches[1:])
    assert np.array_equal(words_of(found["keys"], 25), want.keys)
    assert found["size"].to_list() == want.sizes.tolist()
    if texts:
        with pytest.raises(ValueError, match="24 bytes"):
            words_of(found["set_hash"], 3)


def test_sketches_differ_as_the_index_says() -> None:
    draw = np.random.default_rng(1)
    for similarity in (0.3, 0.7, 0.9):
        common, size = draw.integers(0, 2**64, 2000, np.uint64), int(2000 * (1 / similarity - 1) / 2)
        apart = draw.integers(0, 2**64, (2, size), np.uint64)
        sets = np.concatenate([common, apart[0], common, apart[1]])
        one, two = sketch(sign(sets, np.array([0, len(sets) // 2, len(sets)]), 128))
        differing = sum(int(a) >> at & 3 != int(b) >> at & 3 for a, b in zip(one, two, strict=True)
                        for at in range(0, 64, 2))
        assert abs(differing - 96 * (1 - similarity)) < 22
        assert (differing <= most_differing(0.7)) == (similarity >= 0.7)
