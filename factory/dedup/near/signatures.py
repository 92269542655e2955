"""MinHash signatures, compiled: bit for bit those of datasketch 2.0's `affine32` scheme.

Definition (Broder 1997; the permutations are those of datasketch 2.0, `MinHash(scheme="affine32")`): with x the 32-bit
hash of a shingle, spread by MurmurHash3's 32-bit finaliser, value k of a signature is

    min over the shingles of (a_k * x + b_k mod 2^32),  a_k odd,

a_k and b_k drawn by `numpy.random.RandomState(seed)`. Two ways to x:

- `shingle`: the low 32 bits of our own 64-bit shingle. The result is that of datasketch given `hashfunc=int` and these
  integers.
- `sha1`: the first four bytes, little-endian, of SHA-1 over the lower-cased words joined by one space: what datasketch
  does by itself when it is fed those strings (`sha1.py`).

Two rows agree in a value with a probability that is their Jaccard index, nearly: the permutations are 2-universal and
not min-wise independent, and 32 bits hold sets of some 10^8 shingles.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from factory.text.jit import kernel

U32 = npt.NDArray[np.uint32]
_TOP = np.uint32(0xFFFFFFFF)
_F1, _F2 = np.uint32(0x85EBCA6B), np.uint32(0xC2B2AE35)
_13, _16 = np.uint32(13), np.uint32(16)


@cache
def permutations(num_perm: int, seed: int = 1) -> tuple[U32, U32]:
    """(a, b) of datasketch's affine32 permutations, read-only."""
    draw = np.random.RandomState(seed)
    a = draw.randint(0, 1 << 31, num_perm, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    b = draw.randint(0, 1 << 32, num_perm, dtype=np.uint32)
    a.flags.writeable = b.flags.writeable = False
    return a, b


@kernel
def spread(hashes: Any, out: Any) -> None:
    """MurmurHash3's 32-bit finaliser of the low 32 bits of `hashes`."""
    for at in range(len(hashes)):
        value = np.uint32(hashes[at])
        value = np.uint32((value ^ (value >> _16)) * _F1)
        value = np.uint32((value ^ (value >> _13)) * _F2)
        out[at] = value ^ (value >> _16)


@kernel
def sign_kernel(spreaded: Any, offsets: Any, a: Any, b: Any, out: Any) -> None:
    """Fill `out` (rows x permutations). The inner loop runs over permutations, four shingles at a time, so that LLVM
    makes vector code of it for short texts as for long ones and the signature is loaded and stored a quarter as
    often."""
    count = len(a)
    for row in range(len(offsets) - 1):
        least = out[row]
        for k in range(count):
            least[k] = _TOP
        at, stop = offsets[row], offsets[row + 1]
        while at + 4 <= stop:
            x0, x1, x2, x3 = spreaded[at], spreaded[at + 1], spreaded[at + 2], spreaded[at + 3]
            for k in range(count):
                ak, bk = a[k], b[k]
                left = min(np.uint32(ak * x0 + bk), np.uint32(ak * x1 + bk))
                right = min(np.uint32(ak * x2 + bk), np.uint32(ak * x3 + bk))
                least[k] = min(least[k], min(left, right))
            at += 4
        while at < stop:
            x0 = spreaded[at]
            for k in range(count):
                least[k] = min(least[k], np.uint32(a[k] * x0 + b[k]))
            at += 1


def sign(hashes: npt.NDArray[np.uint64] | U32, offsets: npt.NDArray[np.int64], num_perm: int, seed: int = 1) -> U32:
    """Signatures (rows x num_perm) of rows whose shingle hashes are `hashes[offsets[i]:offsets[i + 1]]`; of wider
    hashes the low 32 bits count. A row without any has all bits set, as datasketch's empty MinHash."""
    spreaded = np.empty(len(hashes), np.uint32)
    spread(hashes, spreaded)
    out = np.empty((len(offsets) - 1, num_perm), np.uint32)
    sign_kernel(spreaded, offsets, *permutations(num_perm, seed), out)
    return out
