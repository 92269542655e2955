"""Choosing the next token: a pure function of the logits, the settings, the request's seed and the token's position.

Sampling from a softmax equals taking the argmax of the logits plus independent Gumbel noise (Gumbel 1954; Maddison et
al. 2014, "A* Sampling", section 2). The noise for token `v` at position `t` is the v-th output of Philox 4x64-10
(Salmon et al. 2011, "Parallel Random Numbers: As Easy as 1, 2, 3") with the seed as key and `t` in the counter: no
state passes from one token to the next, so batch-mates, order and restarts cannot change a row's sample. Raw 64-bit
outputs are used, not a library's distributions, because only the former are promised never to change.

Order of settings: temperature, then `top_k`, then `top_p` over what is left (Holtzman et al. 2020, section 3.1), then
noise.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from factory.models.base import Sampling

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.intp]

_KEY_MASK = (1 << 128) - 1
_EXPONENT_OF_ONE = np.uint64(0x3FF0000000000000)
_HALF_STEP = 2.0**-53
_FIRST_LOOK = 512


def gumbel(seed: int, position: int, size: int, ids: Ids | None = None) -> Floats:
    """Standard Gumbel noise at `position` (0 is the first new token) for `ids`, or for all of the `size` token ids."""
    # The low counter word counts blocks inside one position, the next one counts positions: streams never overlap.
    raw = np.random.Philox(key=seed & _KEY_MASK, counter=[0, position, 0, 0]).random_raw(size)
    if ids is not None:
        raw = raw[ids]
    raw >>= np.uint64(12)
    raw |= _EXPONENT_OF_ONE
    noise: Floats = raw.view(np.float64)
    noise -= 1.0 - _HALF_STEP
    for _ in range(2):
        np.log(noise, out=noise)
        np.negative(noise, out=noise)
    return noise


def choose(logits: npt.NDArray[Any], sampling: Sampling, seed: int, position: int) -> int:
    """The token id that `sampling` draws from one row of logits; temperature 0 takes the largest (the first of
    equals)."""
    if sampling.temperature == 0:
        return int(np.argmax(logits))
    scores = np.divide(logits, sampling.temperature, dtype=np.float64)
    allowed = support(scores, sampling.top_k, sampling.top_p)
    noise = gumbel(seed, position, scores.size, allowed)
    if allowed is None:
        return int(np.argmax(np.add(scores, noise, out=noise)))
    return int(allowed[np.argmax(scores[allowed] + noise)])


def support(scores: Floats, top_k: int, top_p: float) -> Ids | None:
    """Token ids that `top_k` and `top_p` leave, or None when both are off.

    `top_k` keeps every token that scores at least as high as the k-th; `top_p` keeps the smallest set of best tokens
    whose probability reaches it, equal scores in order of id.
    """
    kept: Ids | None = None
    if 0 < top_k < scores.size:
        kept = np.flatnonzero(scores >= np.partition(scores, -top_k)[-top_k])
    if top_p >= 1.0:
        return kept
    return _nucleus(scores, np.arange(scores.size) if kept is None else kept, top_p)


def _nucleus(scores: Floats, ids: Ids, top_p: float) -> Ids:
    weights = scores[ids]
    weights = np.exp(weights - weights.max())
    wanted = top_p * weights.sum()
    look = min(_FIRST_LOOK, ids.size)
    while True:
        # A nucleus is nearly always small: sorting only the best few avoids sorting the whole vocabulary.
        least = -np.inf if look == ids.size else np.partition(weights, -look)[-look]
        best = np.flatnonzero(weights >= least)
        best = best[np.argsort(-weights[best], kind="stable")]
        reached = np.cumsum(weights[best])
        if reached[-1] >= wanted or best.size == ids.size:
            return ids[best[: int(np.searchsorted(reached, wanted)) + 1]]
        look = min(look * 8, ids.size)
