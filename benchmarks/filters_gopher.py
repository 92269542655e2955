"""datatrove's Gopher repetition filter, in an environment of its own: how fast it is, and its thirteen values.

    PYTHON filters_gopher.py TIMED.parquet WORDS.parquet OUT.parquet

The filter compares each value with a limit; limits of a kind that writes down what they are compared with, and never
say that they are exceeded, make its own code tell the values. TIMED has `text`: the filter for English with such
limits (all thirteen values, its own words), and with its own limits (it stops at the first that is exceeded). WORDS has
`text` and `words` (begin and end of each, in bytes): the same code with `split_into_words` replaced by those words; the
values go to OUT. Prints CPU seconds as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterable

import polars as pl
from datatrove.data import Document
from datatrove.pipeline.filters import gopher_repetition_filter as module

VALUES = ("dup_line_frac", "dup_line_char_frac", "dup_para_frac", "dup_para_char_frac", "top_2gram", "top_3gram",
          "top_4gram", *(f"dup_{n}gram" for n in range(5, 11)))
seen: dict[str, float] = {}


class Limit(float):
    """A limit that nothing exceeds and that keeps what it was compared with."""

    name: str

    def __lt__(self, value: float) -> bool:
        seen[self.name] = float(value)
        return False


def limit(name: str) -> Limit:
    """See `Limit`."""
    made = Limit(1.0)
    made.name = name
    return made


def open_filter() -> module.GopherRepetitionFilter:
    """datatrove's filter with limits that write down."""
    return module.GopherRepetitionFilter(
        limit("dup_line_frac"), limit("dup_para_frac"), limit("dup_line_char_frac"), limit("dup_para_char_frac"),
        tuple((n, limit(f"top_{n}gram")) for n in (2, 3, 4)), tuple((n, limit(f"dup_{n}gram")) for n in range(5, 11)))


def run(judge: module.GopherRepetitionFilter, texts: Iterable[str]) -> tuple[float, list[tuple[float, ...]]]:
    """CPU seconds, and the values of each text."""
    rows, documents = [], [Document(text=text, id="0") for text in texts]
    began = time.process_time()
    for document in documents:
        seen.clear()
        judge.filter(document)
        rows.append(tuple(seen.get(name, 0.0) for name in VALUES))
    return time.process_time() - began, rows


def main() -> None:
    """See the module docstring."""
    timed, given, out = sys.argv[1:]
    texts = pl.read_parquet(timed)["text"].to_list()
    run(open_filter(), texts[:1])  # loads spaCy
    own, _ = run(open_filter(), texts)
    stopping, _ = run(module.GopherRepetitionFilter(), texts)
    frame = pl.read_parquet(given)
    words = {}
    for text, places in zip(frame["text"].to_list(), frame["words"].to_list(), strict=True):
        raw = text.encode()
        words[text] = [raw[begin:end].decode() for begin, end in zip(places[::2], places[1::2], strict=True)]
    module.split_into_words = lambda text, _language: words[text]
    same, rows = run(open_filter(), frame["text"].to_list())
    pl.DataFrame(rows, schema=dict.fromkeys(VALUES, pl.Float64), orient="row").write_parquet(out)
    print(json.dumps({"all_values": own, "stopping": stopping, "our_words": same}))


if __name__ == "__main__":
    main()
