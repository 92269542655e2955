"""The watchdog around engines that are real processes: killed, stopped, slow and hanging ones. Every request is
answered once, or the step says why not."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from factory.engine.errors import BackendDied, ModelError
from factory.models.base import Completion, Request, Sampling
from factory.models.runtime import ModelRuntime
from factory.models.watch import Watched

ENGINE = """
import json, os, sys, time
print(flush=True)
for line in sys.stdin:
    key, words = json.loads(line)
    kind, _, rest = words.partition(" ")
    if kind == "once":  # the first engine that is asked falls into it
        flag, _, kind = rest.partition(" ")
        try:
            os.close(os.open(flag, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            kind = ""
    if kind == "die":
        os.kill(os.getpid(), 9)
    while kind == "hang":
        time.sleep(1)
    for written in range(int(rest) if kind == "write" else 1):
        time.sleep(0.05 if kind == "write" else 0)
        print(json.dumps([key, written + 1, False]), flush=True)
    print(json.dumps([key, 1, True]), flush=True)
"""
TICK = 0.02


class Engine:
    """A backend whose answers another process writes, one after the other; it reads eight ahead."""

    def __init__(self, *, counts: bool = True, deaf: bool = False) -> None:
        self.child = subprocess.Popen([sys.executable, "-c", ENGINE], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      bufsize=0)
        self.deaf, self.stopped = deaf, False
        assert self.child.stdout is not None
        self.child.stdout.readline()  # like a real one, it is open when it can be asked
        if counts:
            self.life = 0

    def generate(self, requests: Iterator[Request]) -> Iterator[Completion | None]:
        flying, ended, seen = 0, False, b""
        assert self.child.stdout is not None
        assert self.child.stdin is not None
        while flying or not ended:
            while flying < 8 and not ended:
                request = None if self.stopped else next(requests, None)
                ended = request is None
                if request is not None:
                    flying += 1
                    try:
                        os.write(self.child.stdin.fileno(), json.dumps([request.key, request.prompt]).encode() + b"\n")
                    except BrokenPipeError:
                        raise BackendDied("the engine is gone") from None
            ready, _, _ = select.select([self.child.stdout], [], [], TICK)
            if not ready:
                yield None
                continue
            new = os.read(self.child.stdout.fileno(), 65536)
            if not new:
                raise BackendDied("the engine died")
            *lines, seen = (seen + new).split(b"\n")
            for key, tokens, done in map(json.loads, lines):
                if hasattr(self, "life"):
                    self.life += 1
                if done:
                    flying -= 1
                    yield Completion(key, key, tokens_out=tokens)

    def stop(self) -> None:
        self.stopped = True

    def close(self) -> None:
        while self.deaf and self.child.poll() is None:
            time.sleep(TICK)
        self.child.kill()
        self.child.wait()
        for pipe in (self.child.stdin, self.child.stdout):
            if pipe is not None:
                pipe.close()


@pytest.fixture
def engines() -> Iterator[list[Engine]]:
    made: list[Engine] = []
    yield made
    for engine in made:
        engine.child.kill()
        engine.close()


def watched(engines: list[Engine], said: list[str] | None = None, *, counts: bool = True, deaf: bool = False,
            **runtime: Any) -> Watched:
    def start() -> Engine:
        engines.append(Engine(counts=counts, deaf=deaf))
        return engines[-1]

    return Watched(start, "mine", ModelRuntime(**runtime), None if said is None else said.append, grace=0.2)


def requests(*prompts: str) -> list[Request]:
    return [Request(str(index), 0, Sampling(), prompt=prompt) for index, prompt in enumerate(prompts)]


def answers(backend: Watched, asked: list[Request]) -> list[Completion]:
    return [done for done in backend.generate(iter(asked)) if done is not None]


def test_a_killed_engine_is_started_again_and_every_request_answered_once(engines: list[Engine]) -> None:
    said: list[str] = []
    backend, asked = watched(engines, said), requests(*[""] * 100)
    stream, found = backend.generate(iter(asked)), []
    for done in filter(None, stream):
        found.append(done)
        if len(found) == 40:
            os.kill(engines[0].child.pid, signal.SIGKILL)
    assert sorted(int(done.key) for done in found) == list(range(100))
    assert {done.attempts for done in found} == {1, 2}
    assert sum(done.attempts == 2 for done in found) <= 8
    assert (len(engines), len(said)) == (2, 1)
    backend.close()
    assert [engine.child.poll() is not None for engine in engines] == [True, True]


@pytest.mark.parametrize("counts", [True, False])
def test_a_silent_engine_is_started_again(engines: list[Engine], tmp_path: Path, counts: bool) -> None:
    backend = watched(engines, counts=counts, silence=0.5)
    assert len(answers(backend, requests("", "", f"once {tmp_path / 'flag'} hang", "", ""))) == 5
    assert len(engines) == 2


def test_an_engine_that_is_lost_again_ends_the_step(engines: list[Engine]) -> None:
    backend = watched(engines)
    stream, found = backend.generate(iter(requests(*[""] * 20, "die"))), []
    with pytest.raises(ModelError, match="kept") as error:
        found += [done.key for done in stream if done is not None]
    assert not isinstance(error.value, BackendDied)
    assert len(engines) == 2
    assert answers(backend, requests("")) == []


def test_a_slow_engine_is_lost_only_while_more_requests_wait(engines: list[Engine]) -> None:
    """20 tokens a second, where 500 are wanted."""
    with pytest.raises(ModelError, match="tokens/s"):
        answers(watched(engines, silence=0.5, floor=500), requests(*["write 8"] * 40))
    assert len(engines) == 2
    assert len(answers(watched(engines, silence=0.5, floor=500), requests("write 16"))) == 1
    assert len(engines) == 3


def test_a_long_answer_is_no_silence_while_tokens_come(engines: list[Engine]) -> None:
    assert len(answers(watched(engines, silence=0.5), requests("write 16"))) == 1
    assert len(engines) == 1


def test_time_spent_elsewhere_is_no_silence(engines: list[Engine]) -> None:
    """A slow reader, and a source that takes its time."""
    def slowly() -> Iterator[Request]:
        for request in requests("", ""):
            time.sleep(0.6)
            yield request

    for done in watched(engines, counts=False, silence=0.5, floor=0.01).generate(slowly()):
        if done is not None:
            time.sleep(0.6)
    assert len(engines) == 1


def test_an_engine_that_does_not_even_close_holds_nothing_up(engines: list[Engine], tmp_path: Path) -> None:
    assert len(answers(watched(engines, deaf=True, silence=0.5), requests("", f"once {tmp_path / 'flag'} hang"))) == 2
    assert len(engines) == 2


@pytest.mark.parametrize("end", ["die", "hang"])
def test_after_a_stop_nothing_is_started_again(engines: list[Engine], end: str) -> None:
    backend, found = watched(engines, silence=0.5), 0
    for done in backend.generate(iter(requests("", "", "", end, *[""] * 20))):
        found += done is not None
        backend.stop()
    assert found <= 3
    assert len(engines) == 1


def test_an_engine_that_cannot_be_started_again_says_both_reasons(engines: list[Engine]) -> None:
    def start() -> Engine:
        if engines:
            raise ModelError("no memory")
        engines.append(Engine())
        return engines[0]

    with pytest.raises(ModelError, match=r"no memory.*the engine"):
        answers(Watched(start, "mine", ModelRuntime()), requests("die"))
