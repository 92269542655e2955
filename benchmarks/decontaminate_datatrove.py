"""datatrove's n-gram decontamination as a side of the benchmark: `python decontaminate_datatrove.py SPEC` with SPEC a
JSON object {corpus, items, n, rows}, run by an interpreter that has datatrove (`filters_peers.txt`). The index is made
with the filter's own tokenizer and hash, without its indexer, which wants lighteval."""

from __future__ import annotations

import json
import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import polars as pl
from datatrove.data import Document
from datatrove.pipeline.decont.n_grams import NGramsDecontConfig, NGramsDecontFilter
from datatrove.utils.text import ngrams, simplify_text


def main() -> None:
    """Command line of the module."""
    spec = json.loads(sys.argv[1])
    config = NGramsDecontConfig(n_grams=spec["n"], find_query_ngrams=True)
    texts = pl.read_parquet(spec["corpus"], columns=["text"])["text"].head(spec["rows"])
    with tempfile.TemporaryDirectory() as folder:
        step, known = NGramsDecontFilter(folder, config), set()
        for text in pl.read_parquet(spec["items"])["text"]:
            tokens = step.tokenizer.word_tokenize(simplify_text(text, config.norm_config))
            known |= {step.hash_func(" ".join(gram)) for gram in ngrams(tokens, config.n_grams)}
        np.array(list(known), dtype=config.hash_config.np_descr).tofile(Path(folder) / "all.index.hashes")
        documents = [Document(text=text, id=str(number)) for number, text in enumerate(texts)]
        step.filter(documents[0])  # loads the index
        began = time.process_time()
        kept = [step.filter(document) for document in documents]
        seconds = time.process_time() - began
    print(json.dumps({"rows": len(texts), "bytes": int(texts.str.len_bytes().sum()), "seconds": seconds,
                      "hit": sum(one is not True for one in kept),
                      "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}))


if __name__ == "__main__":
    main()
