"""The side of the code under test: load a program as a module, then answer calls to its functions.

First message in: `{"source", "names": whether to tell what the module defines, "file"}`. First message out:
`["ready", [[name, value], …]]` (a value that may be large is `{"later": number}`, to be asked for),
`["compile_error", text]` or `["failed", error]`. Then questions (`peers.py`), or in one message
`["calls", [[name, args, kwargs], …]]`, answered one by one in order. A name `Solution.f` is the method `f` of a new
object of class Solution.
"""

from __future__ import annotations

import builtins
import collections
import json
import os
import sys
import types
from typing import Any

from factory.verifiers.sandbox.guest.peers import Message, Peer
from factory.verifiers.sandbox.guest.values import pack

LONGEST = 64 << 20
_LARGE = (str, bytes, list, tuple, dict, set, frozenset, bytearray, collections.deque)


class Wire:
    """Messages over two pipes."""

    def __init__(self, source: int, sink: int):
        self.source, self.sink = source, sink

    def read(self) -> bytes:
        """One frame; the process ends where the far side is gone."""
        size = int.from_bytes(self._exactly(4), "little")
        return self._exactly(min(size, LONGEST))

    def _exactly(self, size: int) -> bytes:
        found = os.read(self.source, size)
        while len(found) < size:
            more = os.read(self.source, size - len(found))
            if not more:
                os._exit(0)
            found += more
        return found

    def write(self, frame: bytes) -> None:
        """All of it."""
        left = memoryview(frame)
        while left:
            left = left[os.write(self.sink, left):]


def serve(source: int, sink: int) -> None:
    """Never returns."""
    wire = Wire(source, sink)

    def send(message: Message) -> None:
        wire.write(pack(message))

    peer = Peer(send, lambda: json.loads(wire.read()))
    first = json.loads(wire.read())
    module = load(first, send)
    send(["ready", _names(module, peer) if first.get("names") else []])
    while True:
        message = json.loads(wire.read())
        if message[0] == "calls":
            for name, args, kwargs in message[1]:
                send(_call(peer, module, name, args, kwargs))
        else:
            peer.answer(message)


def load(first: dict[str, Any], send: Any) -> types.ModuleType:
    """The program as the module `solution`; where it cannot be loaded, say why and end."""
    module = types.ModuleType("solution")
    module.__dict__["__builtins__"] = builtins
    sys.modules["solution"] = module
    try:
        code = compile(first["source"], first.get("file") or "solution.py", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError) as error:
        send(["compile_error", f"{type(error).__name__}: {error}"[:300]])
        os._exit(0)
    try:
        exec(code, module.__dict__)
    except BaseException as error:
        send(["failed", Peer(send, list)._describe(error)])
        os._exit(0)
    return module


def _names(module: types.ModuleType, peer: Peer) -> list[list[Any]]:
    """What the module defines, for the tests to refer to. Modules go by name: the tests import their own."""
    found = []
    for name, value in list(module.__dict__.items()):
        if name.startswith("__"):
            continue
        if isinstance(value, types.ModuleType):
            found.append([name, {"module": value.__name__}])
            continue
        try:
            if isinstance(value, _LARGE):
                peer.exports.append(value)
                found.append([name, {"later": len(peer.exports) - 1}])
            else:
                found.append([name, peer.data(value)])
        except Exception:
            continue
    return found


def _call(peer: Peer, module: types.ModuleType, name: str, args: list[Any], kwargs: dict[str, Any]) -> Message:
    try:
        owner, _, method = name.rpartition(".")
        function = getattr(getattr(module, owner)(), method) if owner else _global(module, name)
        values = [peer.value(arg) for arg in args]
        return ["ok", peer.data(function(*values, **{key: peer.value(arg) for key, arg in kwargs.items()}))]
    except BaseException as error:
        return ["err", peer._describe(error)]


def _global(module: types.ModuleType, name: str) -> Any:
    if name not in module.__dict__:
        raise NameError(f"name {name!r} is not defined")
    return module.__dict__[name]
