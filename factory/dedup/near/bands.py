"""Locality-sensitive hashing by bands: rows that share a band key are candidates.

With b bands of r values (Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", section 3.4.2) two rows of Jaccard
index s share a key with probability 1 - (1 - s^r)^b. A key is 64 bits over the band's number, its r values and the
row's scope, so rows of different scopes never meet and one table serves all bands.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from factory.text.jit import kernel
from factory.text.words import BASIS, STEP, mix


@kernel
def band_kernel(signatures: Any, scopes: Any, bands: int, rows: int, out: Any) -> None:
    """Fill `out` (texts x bands). `scopes` has one uint64 per text, or one for all."""
    for text in range(len(signatures)):
        scope = scopes[text % len(scopes)]
        for band in range(bands):
            value = (BASIS ^ scope) * STEP + np.uint64(band)
            for at in range(band * rows, band * rows + rows):
                value = mix((value ^ np.uint64(signatures[text, at])) * STEP)
            out[text, band] = value


def band_keys(signatures: npt.NDArray[np.uint32], bands: int, rows: int,
              scopes: npt.NDArray[np.uint64] | None = None) -> npt.NDArray[np.uint64]:
    """The keys (texts x bands) of signatures of at least bands x rows values."""
    if signatures.shape[1] < bands * rows:
        raise ValueError(f"{bands} bands of {rows} need {bands * rows} permutations, not {signatures.shape[1]}")
    out = np.empty((len(signatures), bands), np.uint64)
    within = np.zeros(1, np.uint64) if scopes is None else np.ascontiguousarray(scopes, np.uint64)
    band_kernel(signatures, within, bands, rows, out)
    return out
