"""Two processes that ask each other questions, each in a sandbox of its own: the tests, and the code under test.

A plain value crosses as itself (`values.py`). Anything else stays where it is and crosses as a reference, for which
the far side holds a stand-in: a function that can be called, an object whose attributes, items and methods can be
asked for, an iterator that is read one item at a time, an exception class that can be caught. Whatever comes back is
again a plain value or a reference.

What keeps this honest: a stand-in is equal to itself and nothing else, and has no order and no arithmetic, so no
method of the far side ever sees the value that a test expects or decides a comparison. Where tests make objects of a
class that defines such an operator and use it, they can decide nothing (`Unsupported`). A `strict` peer (the side of
the tests) lets the far side call the functions that it handed over and touch public attributes of its own objects,
never the inside of a function, a class or a module.
"""

from __future__ import annotations

import builtins
import collections
from collections.abc import Callable, Iterator
from typing import Any

from factory.verifiers.sandbox.guest.values import Unplain, decode, encode

Message = list[Any]
_MUTABLE = (list, dict, set, bytearray, collections.deque, collections.Counter, collections.OrderedDict,
            collections.defaultdict)


class Unsupported(BaseException):
    """The tests need what cannot be done across two processes. No exception of theirs to catch."""


class Nonsense(RuntimeError):
    """The far side sent what is no message."""

    def __init__(self, error: BaseException):
        self._far = f"what the program sent cannot be read ({type(error).__name__})"
        super().__init__(self._far)


class Remote:
    """A stand-in for an object of the far side."""

    __slots__ = ("__weakref__", "_made", "_name", "_number", "_peer")

    def __init__(self, peer: Peer, number: int, name: str):
        object.__setattr__(self, "_peer", peer)
        object.__setattr__(self, "_number", number)
        object.__setattr__(self, "_name", name)
        object.__setattr__(self, "_made", False)

    def _ask(self, what: str, *data: Any) -> Any:
        return self._peer.ask(what, self._number, *data)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._peer.call(self._number, args, kwargs)

    def __getattr__(self, name: str) -> Any:
        return self._ask("get", name)

    def __repr__(self) -> str:
        return str(self._ask("repr"))


class RemoteClass(Remote):
    """A class of the far side: called, it makes a stand-in for the new object."""

    __slots__ = ()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        made = super().__call__(*args, **kwargs)
        if isinstance(made, RemoteObject):
            object.__setattr__(made, "_made", True)
        return made

    def __instancecheck__(self, instance: Any) -> bool:
        return isinstance(instance, Remote) and self._ask("isinstance", self._peer.data(instance)) is True


class RemoteObject(Remote):
    """An instance of a class of the far side."""

    __slots__ = ()

    def __setattr__(self, name: str, value: Any) -> None:
        self._ask("set", name, self._peer.data(value))

    def __getitem__(self, key: Any) -> Any:
        return self._ask("item", self._peer.data(key))

    def __setitem__(self, key: Any, value: Any) -> None:
        self._ask("setitem", self._peer.data(key), self._peer.data(value))

    def __eq__(self, other: object) -> bool:
        if self is not other and isinstance(other, RemoteObject):
            _give_up(self, other, "__eq__")
        return True if self is other else NotImplemented

    def __hash__(self) -> int:
        _give_up(self, None, "__hash__")
        return object.__hash__(self)

    def __contains__(self, item: object) -> bool:
        if not self._made or self._ask("defines", "__iter__"):
            return any(found is item or found == item for found in self)
        _give_up(self, None, "__contains__")
        return any(found is item or found == item for found in self)

    def __len__(self) -> int:
        return int(self._ask("len"))

    def __bool__(self) -> bool:
        return self._ask("bool") is True

    def __str__(self) -> str:
        return str(self._ask("str"))

    def __iter__(self) -> Iterator[Any]:
        found = self._ask("iter")
        return found if isinstance(found, RemoteIterator) else iter(())

    def __enter__(self) -> Any:
        return self._ask("get", "__enter__")()

    def __exit__(self, kind: Any, *error: Any) -> Any:
        swallowed = self._ask("get", "__exit__")(None, None, None)
        # The far side may swallow what its own work raised, never what an assertion of the tests says.
        return swallowed if kind is not None and not issubclass(kind, AssertionError) else None


def _give_up(one: Remote, other: object, name: str) -> None:
    """End the test where it asks for an operator that the program's class defines, of an object the tests made. What a
    function returned in place of a value has no operators, else a wrong result could always end a test."""
    if not one._peer.strict or not (one._made or (isinstance(other, Remote) and other._made)):
        return
    for side in (one, other):
        if isinstance(side, Remote) and side._ask("defines", name):
            raise Unsupported(f"the tests use {name} of the program's own objects, which are in another process")


def _add_operators() -> None:
    def add(name: str) -> None:
        def method(self: RemoteObject, *others: Any) -> Any:
            _give_up(self, others[0] if others else None, name)
            if name in alone:
                raise TypeError(f"an object of class {self._name!r} has no {name}")
            return NotImplemented

        setattr(RemoteObject, name, method)

    alone = {f"__{name}__" for name in ("neg", "pos", "invert", "abs", "int", "float", "index", "complex", "round",
                                        "reversed", "delitem")}
    for name in (*alone, "__lt__", "__le__", "__gt__", "__ge__"):
        add(name)
    for name in ("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor", "lshift",
                 "rshift"):
        for prefix in ("", "r", "i"):
            add(f"__{prefix}{name}__")


_add_operators()


class RemoteIterator(Remote):
    """An iterator of the far side, read as far as it is wanted."""

    __slots__ = ()

    def __iter__(self) -> RemoteIterator:
        return self

    def __next__(self) -> Any:
        return self._ask("next")


class _Sense:
    """A reading of what the far side sent."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        if isinstance(error, Exception) and not isinstance(error, MemoryError):
            raise Nonsense(error) from None


_SENSE = _Sense()
_STAND_INS: dict[str, type[Remote]] = {
    "function": Remote, "class": RemoteClass, "object": RemoteObject, "iterator": RemoteIterator}


class Peer:
    """One end. `send` and `receive` move messages; `own` names the modules whose objects a strict peer opens."""

    def __init__(self, send: Callable[[Message], None], receive: Callable[[], Message], strict: tuple[str, ...] = ()):
        self.send, self.receive, self.strict = send, receive, strict
        self.exports: list[Any] = []
        self._numbers: dict[int, int] = {}
        self._stand_ins: dict[tuple[int, str], Any] = {}

    # ---- asking ----

    def call(self, number: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call a function of the far side; what it changed in the arguments is changed here too."""
        try:
            reply = self._exchange(["?", "call", number, [self.data(arg) for arg in args],
                                    {name: self.data(arg) for name, arg in kwargs.items()}])
        except StopIteration as error:
            # From a plain call it would end a loop of the tests quietly: `all(map(f, cases))` would be true.
            raise RuntimeError(f"the function raised StopIteration: {error}") from None
        with _SENSE:
            for place, data in reply[2]:
                _restore(args[place] if type(place) is int else kwargs[place], self.value(data))
            return self.value(reply[1])

    def ask(self, what: str, number: int, *data: Any) -> Any:
        """One question about an object of the far side."""
        reply = self._exchange(["?", what, number, *data])
        with _SENSE:
            return self.value(reply[1])

    def _exchange(self, request: Message) -> Message:
        self.send(request)
        while True:
            message = self.receive()
            if message[0] == "?":
                self.answer(message)
            elif message[0] == "ok" and len(message) == 3:
                return message
            elif message[0] == "err":
                with _SENSE:
                    error = self._exception(message[1])
                if self.strict and isinstance(error, StopIteration) and request[1] != "next":
                    # It would end a loop of the tests (`zip(map(f, …), …)`) as if there were nothing more to check.
                    raise RuntimeError("the program raised StopIteration") from error
                raise error

    # ---- answering ----

    def answer(self, message: Message) -> None:
        """Do what the far side asks and reply; an exception is part of the answer."""
        try:
            _, what, number, *data = message
            if what == "call":
                reply = self._called(self.exports[number], *data)
            else:
                self._permit(what, self.exports[number], data)
                reply = ["ok", self.data(self._answers(what, self.exports[number], data)), []]
        except Unsupported:
            raise
        except BaseException as error:
            reply = ["err", self._describe(error)]
        self.send(reply)

    def _called(self, function: Any, args: list[Any], kwargs: dict[str, Any]) -> Message:
        places: list[tuple[int | str, Any]] = [*enumerate(args), *kwargs.items()]
        values = {place: self.value(data) for place, data in places}
        result = function(*(values[place] for place in range(len(args))), **{name: values[name] for name in kwargs})
        changed = [[place, now] for place, data in places if type(values[place]) in _MUTABLE
                   and (now := self.data(values[place])) != data]
        return ["ok", self.data(result), changed]

    def _permit(self, what: str, target: Any, data: list[Any]) -> None:
        if not self.strict or (isinstance(target, Iterator) and what == "next"):
            return
        if type(target).__module__ not in self.strict or (what in ("get", "set") and str(data[0]).startswith("_")):
            raise TypeError(f"the tests keep this to themselves: {what}")

    def _answers(self, what: str, target: Any, data: list[Any]) -> Any:
        if what == "get":
            return getattr(target, data[0])
        if what == "set":
            return setattr(target, data[0], self.value(data[1]))
        if what == "item":
            return target[self.value(data[0])]
        if what == "setitem":
            target[self.value(data[0])] = self.value(data[1])
            return None
        if what == "value":
            return target
        if what == "defines":
            kind = type(target)
            return getattr(kind, data[0], None) is not getattr(object, data[0], None)
        if what == "isinstance":
            return isinstance(self.value(data[0]), target)
        simple: dict[str, Callable[[Any], Any]] = {
            "len": len, "bool": bool, "str": str, "repr": repr, "iter": iter, "next": next}
        return simple[what](target)

    # ---- values, references, exceptions ----

    def data(self, value: Any) -> Any:
        """A value as it crosses."""
        return encode(value, self._export)

    def value(self, data: Any) -> Any:
        """What crossed, as a value or a stand-in."""
        return decode(data, self._import)

    def _export(self, value: Any) -> Any:
        if isinstance(value, Remote):
            return {"own": value._number}
        number = self._numbers.get(id(value))
        if number is None:
            number = self._numbers[id(value)] = len(self.exports)
            self.exports.append(value)
        name = str(getattr(value, "__name__", type(value).__name__))
        if isinstance(value, type):
            if not issubclass(value, BaseException):
                return {"ref": [number, "class", name]}
            base = value.__bases__[0] if value.__bases__ else Exception
            return {"ref": [number, "exception", name, base.__name__ if _builtin(base) else self._export(base)]}
        if callable(value) and hasattr(type(value), "__get__"):
            return {"ref": [number, "function", name]}
        if isinstance(value, Iterator):
            return {"ref": [number, "iterator", name]}
        return {"ref": [number, "function" if _is_function(value) else "object", name]}

    def _import(self, tag: str, inside: Any) -> Any:
        if tag == "own":
            return self.exports[inside]
        if tag != "ref":
            raise Unplain(f"unknown tag {tag!r}")
        number, kind, name = inside[:3]
        known = self._stand_ins.get((number, kind))
        if known is None:
            if kind == "exception":
                base = getattr(builtins, inside[3]) if type(inside[3]) is str else self._import("ref", inside[3]["ref"])
                known = type(name, (base,), {"__module__": "solution"})
            else:
                known = _STAND_INS[kind](self, number, name)
            self._stand_ins[number, kind] = known
        return known

    def forget(self) -> None:
        """The far side has been replaced: stand-ins made so far belong to nobody."""
        self._stand_ins = {key: value for key, value in self._stand_ins.items() if key[1] in ("function", "class")}

    def _describe(self, error: BaseException) -> dict[str, Any]:
        kind = type(error)
        ours = kind.__name__ if _builtin(kind) else None
        try:
            args = [encode(arg) for arg in error.args]
        except Exception:
            args = [_text(error)]
        try:
            extra = {str(name): encode(value) for name, value in vars(error).items()}
        except Exception:
            extra = {}
        known = ours or next((base.__name__ for base in kind.__mro__ if _builtin(base)), "Exception")
        return {"builtin": known, "name": kind.__name__, "args": args, "text": _text(error), "vars": extra,
                "class": None if ours else self._export(kind)}

    def _exception(self, about: Any) -> BaseException:
        kind = self.value(about["class"]) if about["class"] else getattr(builtins, str(about["builtin"]), Exception)
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            kind = Exception
        error = kind.__new__(kind)
        error.args = tuple(self.value(arg) for arg in about["args"])
        for name, value in about["vars"].items():
            if not name.startswith("__"):
                error.__dict__[name] = self.value(value)
        error.__dict__["_far"] = f"{about['name']}: {about['text']}"
        return error


def _builtin(kind: type) -> bool:
    return getattr(builtins, kind.__name__, None) is kind and issubclass(kind, BaseException)


def _is_function(value: Any) -> bool:
    return type(value).__module__ in ("builtins", "functools") and callable(value)


def _text(error: BaseException) -> str:
    try:
        return str(error)[:300]
    except BaseException:
        return ""


def _restore(old: Any, new: Any) -> Any:
    """Bring a container to its new content and keep its identity, also that of containers within."""
    if type(old) is not type(new) or type(old) not in _MUTABLE:
        return new
    if isinstance(old, list):
        kept = [_restore(old[at], item) if at < len(old) else item for at, item in enumerate(new)]
        old[:] = kept
    elif isinstance(old, dict):
        fresh = {key: _restore(old[key], item) if key in old else item for key, item in new.items()}
        old.clear()
        old.update(fresh)
    elif isinstance(old, bytearray):
        old[:] = new
    else:
        old.clear()
        (old.update if isinstance(old, set) else old.extend)(new)
    return old
