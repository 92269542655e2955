"""Plain values as JSON: the only thing that crosses between two processes that do not trust each other.

Numbers, strings, booleans, None and lists are themselves; every other plain value is an object with one tag, so that
tuples, sets, bytes, dicts with any keys, non-finite floats, ints of any size and the standard library's small value
types arrive as what they were. An instance of a subclass of a builtin container or number crosses as that builtin,
read with the builtin's own methods: what a program redefined is never asked. Anything else is the caller's to
describe (`other`), usually as a reference that the far side can only ask questions of (`peers.py`).

`canonical` is a text that is equal for values that were encoded equal, whatever the order of sets and dicts. Equal
texts mean equal values (but for nan); different texts mean nothing: 1, 1.0 and True are equal.
"""

from __future__ import annotations

import base64
import builtins
import collections
import datetime
import decimal
import enum
import fractions
import json
import math
from collections.abc import Callable
from typing import Any

DEEPEST = 150
BIG_INT = 1 << 64

Other = Callable[[Any], Any]


class Unplain(ValueError):
    """A value that cannot cross: no plain value, too deep, or not what a decoder knows."""


def _refuse(value: Any) -> Any:
    raise Unplain(f"a value of type {type(value).__name__} is no plain value")


def encode(value: Any, other: Other = _refuse, depth: int = 0) -> Any:
    """`value` as JSON data; `other` encodes what is not plain."""
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int:
        return value if -BIG_INT < value < BIG_INT else {"int": hex(value)}
    if kind is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if depth > DEEPEST:
        raise Unplain("a value is nested too deeply")
    if kind is list:
        return [encode(item, other, depth + 1) for item in value]
    if kind is tuple:
        return {"tuple": [encode(item, other, depth + 1) for item in value]}
    if kind is dict:
        return {"dict": _pairs(value, other, depth)}
    writer = _WRITERS.get(kind)
    if writer is not None:
        return writer(value, other, depth)
    return _encode_subclass(value, other, depth)


def _pairs(value: dict[Any, Any], other: Other, depth: int) -> list[Any]:
    return [[encode(key, other, depth + 1), encode(item, other, depth + 1)] for key, item in dict.items(value)]


def _items(values: Any, other: Other, depth: int) -> list[Any]:
    return [encode(item, other, depth + 1) for item in values]


def _sorted(values: Any, other: Other, depth: int) -> list[Any]:
    return sorted(_items(values, other, depth), key=json.dumps)


def _encode_subclass(value: Any, other: Other, depth: int) -> Any:
    if isinstance(value, type):
        name = type.__getattribute__(value, "__name__")
        return {"class": name} if getattr(builtins, name, None) is value else other(value)
    if isinstance(value, enum.Enum):
        return other(value)
    if isinstance(value, tuple) and hasattr(type(value), "_fields"):
        fields: Any = getattr(type(value), "_fields", None)
        if type(fields) is tuple and all(type(field) is str for field in fields) and len(fields) == len(value):
            return {"namedtuple": [type(value).__name__, list(fields), _items(tuple.__iter__(value), other, depth)]}
    for base, read in _BASES:
        if isinstance(value, base):
            return encode(read(value), other, depth)
    return other(value)


_BASES: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (bool, bool), (int, lambda value: int.__add__(value, 0)), (float, lambda value: float.__add__(value, 0.0)),
    (str, lambda value: str.__str__(value)[:]), (bytes, lambda value: bytes.__getitem__(value, slice(None))),
    (list, lambda value: list(list.__iter__(value))), (tuple, lambda value: tuple(tuple.__iter__(value))),
    (dict, lambda value: dict(dict.items(value))), (set, lambda value: set(set.__iter__(value))),
    (frozenset, lambda value: frozenset(frozenset.__iter__(value))),
)

_WRITERS: dict[type, Callable[[Any, Other, int], Any]] = {
    set: lambda value, other, depth: {"set": _sorted(value, other, depth)},
    frozenset: lambda value, other, depth: {"frozenset": _sorted(value, other, depth)},
    bytes: lambda value, _o, _d: {"bytes": base64.b64encode(value).decode()},
    bytearray: lambda value, _o, _d: {"bytearray": base64.b64encode(value).decode()},
    complex: lambda value, other, _d: {"complex": [encode(value.real, other), encode(value.imag, other)]},
    range: lambda value, other, _d: {"range": _items((value.start, value.stop, value.step), other, 0)},
    type(Ellipsis): lambda _v, _o, _d: {"ellipsis": 0},
    fractions.Fraction: lambda value, other, _d: {
        "Fraction": [encode(value.numerator, other), encode(value.denominator, other)]},
    decimal.Decimal: lambda value, _o, _d: {"Decimal": str(value)},
    datetime.datetime: lambda value, other, _d: {"datetime": value.isoformat()} if value.tzinfo is None
        or isinstance(value.tzinfo, datetime.timezone) else other(value),
    datetime.date: lambda value, _o, _d: {"date": value.isoformat()},
    datetime.time: lambda value, other, _d: {"time": value.isoformat()} if value.tzinfo is None else other(value),
    datetime.timedelta: lambda value, _o, _d: {"timedelta": [value.days, value.seconds, value.microseconds]},
    collections.deque: lambda value, other, depth: {"deque": [_items(value, other, depth), value.maxlen]},
    collections.Counter: lambda value, other, depth: {"Counter": _pairs(value, other, depth)},
    collections.OrderedDict: lambda value, other, depth: {"OrderedDict": [list(pair) for pair in zip(
        _items(value, other, depth), _items(value.values(), other, depth), strict=True)]},
    collections.defaultdict: lambda value, other, depth: {"defaultdict": _pairs(value, other, depth)},
    type({}.keys()): lambda value, other, depth: {"dict_keys": _items(value, other, depth)},
    type({}.values()): lambda value, other, depth: {"dict_values": _items(value, other, depth)},
    type({}.items()): lambda value, other, depth: {"dict_items": [
        [encode(key, other, depth + 2), encode(item, other, depth + 2)] for key, item in value]},
}


def decode(data: Any, other: Callable[[str, Any], Any] | None = None) -> Any:
    """The value of JSON data from `encode`; `other(tag, data)` reads tags that are not plain.

    Raises:
        Unplain: the data is not of that form.
    """
    if type(data) is list:
        return [decode(item, other) for item in data]
    if type(data) is not dict:
        return data
    if len(data) != 1:
        raise Unplain("an encoded value has one tag")
    tag, inside = next(iter(data.items()))
    try:
        reader = _READERS.get(tag)
        if reader is not None:
            return reader(inside, other)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise Unplain(f"not a {tag}: {error}") from None
    if other is None:
        raise Unplain(f"unknown tag {tag!r}")
    return other(tag, inside)


_ReadOther = Callable[[str, Any], Any] | None


def _dict(pairs: Any, other: _ReadOther) -> dict[Any, Any]:
    return {decode(key, other): decode(item, other) for key, item in pairs}


def _builtin_class(name: str) -> type:
    found = getattr(builtins, name)
    if not isinstance(found, type):
        raise TypeError("no class")
    return found


def _namedtuple(inside: Any, other: _ReadOther) -> Any:
    name, fields, values = inside
    return collections.namedtuple(name, fields, rename=True)(*decode(values, other))


_READERS: dict[str, Callable[[Any, _ReadOther], Any]] = {
    "int": lambda data, _o: int(data, 16),
    "float": lambda data, _o: float(data),
    "tuple": lambda data, other: tuple(decode(data, other)),
    "dict": _dict,
    "set": lambda data, other: set(decode(data, other)),
    "frozenset": lambda data, other: frozenset(decode(data, other)),
    "bytes": lambda data, _o: base64.b64decode(data),
    "bytearray": lambda data, _o: bytearray(base64.b64decode(data)),
    "complex": lambda data, other: complex(*decode(data, other)),
    "range": lambda data, other: range(*decode(data, other)),
    "ellipsis": lambda _d, _o: ...,
    "Fraction": lambda data, other: fractions.Fraction(*decode(data, other)),
    "Decimal": lambda data, _o: decimal.Decimal(data),
    "datetime": lambda data, _o: datetime.datetime.fromisoformat(data),
    "date": lambda data, _o: datetime.date.fromisoformat(data),
    "time": lambda data, _o: datetime.time.fromisoformat(data),
    "timedelta": lambda data, _o: datetime.timedelta(*data),
    "deque": lambda data, other: collections.deque(decode(data[0], other), data[1]),
    "Counter": lambda data, other: collections.Counter(_dict(data, other)),
    "OrderedDict": lambda data, other: collections.OrderedDict(_dict(data, other)),
    "defaultdict": lambda data, other: collections.defaultdict(None, _dict(data, other)),
    "dict_keys": lambda data, other: dict.fromkeys(decode(data, other)).keys(),
    "dict_values": lambda data, other: dict(enumerate(decode(data, other))).values(),
    "dict_items": lambda data, other: _dict(data, other).items(),
    "namedtuple": _namedtuple,
    "class": lambda data, _o: _builtin_class(data),
}


def canonical(data: Any) -> Any:
    """Encoded data with the pairs of dicts in one order."""
    if type(data) is list:
        return [canonical(item) for item in data]
    if type(data) is not dict:
        return data
    tag, inside = next(iter(data.items()), ("", None))
    if tag in ("dict", "Counter", "defaultdict") and type(inside) is list:
        return {"dict": sorted((canonical(pair) for pair in inside), key=json.dumps)}
    return {tag: canonical(inside)}


def pack(data: Any) -> bytes:
    """A frame: a length and JSON."""
    body = json.dumps(data, separators=(",", ":"), allow_nan=False).encode()
    return len(body).to_bytes(4, "little") + body
