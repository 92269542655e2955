"""Calls with a deadline that holds: a function runs in a child process that is killed when it takes too long.

Checking an answer runs code on text that a model wrote. `9**9**9` keeps CPython inside one C call for hours, where no
exception, signal handler or thread can reach it; only killing the process does. So a `DeadlineWorker` keeps one child
process, sends it arguments over a pipe and waits for the result. A child that overruns is killed and reaped at once;
the next call starts a new one. The price of a hang is its own deadline and one start.

The child is a fresh interpreter, not a fork: the parent may hold threads and locks of polars or torch. It is also not
a `multiprocessing` process, so it works inside daemonic pool workers. It cannot outlive its parent:

- idle, it sees end of file on its pipe;
- busy, the kernel kills it when the thread that started it ends (Linux, `PR_SET_PDEATHSIG`); a child lost that way
  while another thread was waiting for it is replaced once, by a child of the waiting thread;
- on any POSIX system a timer with the default (deadly) action ends it shortly after its deadline.

Address space is limited, so an expression that explodes ends as a MemoryError in the child.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import resource
import select
import signal
import struct
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any, BinaryIO, Generic, TypeVar

from factory.engine.errors import FactoryError
from factory.engine.orphans import die_with_parent

T = TypeVar("T")

DEFAULT_MEMORY = 2 << 30
_HEADER = struct.Struct("!Q")
_START_SECONDS = 120.0
_GRACE_SECONDS = 2.0
_BOOT = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); " \
        "from factory.verifiers import deadline; deadline._serve()"


class DeadlineExceeded(FactoryError):
    """A call took longer than it may; its process was killed."""


class WorkerCrashed(FactoryError):
    """The child process died during a call (memory, a crash in native code) or could not start."""


class CallFailed(FactoryError):
    """The function raised in the child. `kind` is the exception's class name."""

    def __init__(self, kind: str, text: str):
        self.kind, self.text = kind, text
        super().__init__(f"{kind}: {text}")


class _Died(Exception):
    """The pipe broke: the child is gone."""


class DeadlineWorker(Generic[T]):
    """Runs `fn` in one persistent child process, one call at a time.

    Args:
        fn: function at the top level of an importable module; arguments and results must be picklable.
        warm: top-level function that the child runs once before its first call, for slow imports that should not
            count against a deadline.
        memory: limit on the child's address space in bytes.
    """

    def __init__(self, fn: Callable[..., T], *, warm: Callable[[], object] | None = None, memory: int = DEFAULT_MEMORY):
        self._fn, self._warm, self._memory = fn, warm, memory
        self._process: subprocess.Popen[bytes] | None = None
        self._finalizer: weakref.finalize[..., DeadlineWorker[T]] | None = None
        self._lock = threading.Lock()
        _workers.add(self)

    def call(self, args: tuple[Any, ...], seconds: float) -> T:
        """`fn(*args)`, or an error after `seconds`. Starting the child does not count.

        Raises:
            DeadlineExceeded: no result in time; the child was killed.
            WorkerCrashed: the child died, twice.
            CallFailed: `fn` raised.
        """
        message = pickle.dumps((seconds, args))
        with self._lock:
            for last in (False, True):
                try:
                    process = self._process or self._start()
                    _send(process, message, time.monotonic() + seconds)
                    good, value = _receive(process, time.monotonic() + seconds)
                    break
                except TimeoutError:
                    self._stop()
                    raise DeadlineExceeded(f"no result within {seconds:g} s") from None
                except _Died:
                    status = self._stop()
                    if last:
                        raise WorkerCrashed(f"the worker process died (exit status {status})") from None
                except BaseException:
                    # An interrupt leaves half a message in the pipe: that child must not be asked again.
                    self._stop()
                    raise
        if not good:
            raise CallFailed(*value)
        result: T = value
        return result

    def close(self) -> None:
        """Kill and reap the child, if there is one. The worker stays usable."""
        with self._lock:
            self._stop()

    @property
    def pid(self) -> int | None:
        """Process id of the child, None while there is none."""
        return self._process.pid if self._process is not None else None

    def _start(self) -> subprocess.Popen[bytes]:
        process = self._launch()
        try:
            good, value = _receive(process, time.monotonic() + _START_SECONDS)
        except (TimeoutError, _Died):
            raise self._no_start() from None
        if not good:
            self._stop()
            raise CallFailed(*value)
        return process

    def _launch(self) -> subprocess.Popen[bytes]:
        """Start a child; it will say one thing, whether it is ready."""
        path = json.dumps([os.path.abspath(entry) for entry in sys.path])
        process = subprocess.Popen([sys.executable, "-c", _BOOT, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"})
        self._process = process
        # The finalizer knows who forked the child: a copy of this object in a forked process must leave it alone.
        self._finalizer = weakref.finalize(self, _reap_own, process, os.getpid())
        for pipe in (process.stdin, process.stdout):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
        hello = _frame(pickle.dumps((os.getpid(), self._memory))) + _frame(pickle.dumps((self._fn, self._warm)))
        try:
            _write(process, hello, time.monotonic() + _START_SECONDS)
        except (TimeoutError, _Died):
            raise self._no_start() from None
        return process

    def _no_start(self) -> WorkerCrashed:
        return WorkerCrashed(f"the worker process for {self._fn.__qualname__} did not start (exit status "
                             f"{self._stop()}): run `{sys.executable} -c 'import factory'` to see why")

    def _stop(self) -> int | None:
        process, self._process = self._process, None
        if process is None:
            return None
        if self._finalizer is not None:
            self._finalizer.detach()
        return _reap(process)


_workers: weakref.WeakSet[DeadlineWorker[Any]] = weakref.WeakSet()


def _forget_after_fork() -> None:
    """In a forked process: the children belong to the parent, and a lock may be held by a thread that is not here."""
    for worker in list(_workers):
        process, worker._process, worker._lock = worker._process, None, threading.Lock()
        if process is not None:
            process.returncode = 0
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()  # type: ignore[union-attr]


os.register_at_fork(after_in_child=_forget_after_fork)


def _reap_own(process: subprocess.Popen[bytes], owner: int) -> None:
    if os.getpid() == owner:
        _reap(process)


def _reap(process: subprocess.Popen[bytes]) -> int:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        with contextlib.suppress(OSError):
            pipe.close()  # type: ignore[union-attr]
    return process.wait()


def _frame(body: bytes) -> bytes:
    return _HEADER.pack(len(body)) + body


def _send(process: subprocess.Popen[bytes], body: bytes, until: float) -> None:
    _write(process, _frame(body), until)


def _write(process: subprocess.Popen[bytes], data: bytes, until: float) -> None:
    assert process.stdin is not None
    fd, view = process.stdin.fileno(), memoryview(data)
    while view:
        _wait(fd, select.POLLOUT, until)
        try:
            view = view[os.write(fd, view):]
        except BlockingIOError:
            continue
        except OSError:
            raise _Died from None


def _receive(process: subprocess.Popen[bytes], until: float) -> tuple[bool, Any]:
    assert process.stdout is not None
    fd, data, size = process.stdout.fileno(), bytearray(), -1
    while size < 0 or len(data) < size:
        _wait(fd, select.POLLIN, until)
        chunk = os.read(fd, 1 << 20)
        if not chunk:
            raise _Died
        data += chunk
        if size < 0 and len(data) >= _HEADER.size:
            size = _HEADER.unpack(data[:_HEADER.size])[0]
            del data[:_HEADER.size]
    answer: tuple[bool, Any] = pickle.loads(data)
    return answer


def _wait(fd: int, events: int, until: float) -> None:
    # poll, not select: file descriptors above 1023 are ordinary in a busy engine.
    poller = select.poll()
    poller.register(fd, events)
    left = until - time.monotonic()
    if left <= 0 or not poller.poll(left * 1000):
        raise TimeoutError


# ---- below: what runs in the child -------------------------------------------------------------------------------


def _serve() -> None:
    """The child's life: set limits, import the function, then answer calls until end of file."""
    requests, replies = _take_pipes()
    parent, memory = pickle.loads(_read_frame(requests) or b"")
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    try:
        fn, warm = pickle.loads(_read_frame(requests) or b"")
        if warm is not None:
            warm()
    except Exception as error:
        _reply(replies, (False, (type(error).__name__, str(error)[:500])))
        return
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _limit_memory(memory)
    _silence_stderr()
    _reply(replies, (True, None))
    while (body := _read_frame(requests)) is not None:
        seconds, args = pickle.loads(body)
        signal.setitimer(signal.ITIMER_REAL, seconds + _GRACE_SECONDS)
        outcome = _outcome(fn, args)
        signal.setitimer(signal.ITIMER_REAL, 0)
        _reply(replies, outcome)


def _outcome(fn: Callable[..., Any], args: tuple[Any, ...]) -> tuple[bool, Any]:
    # Pickled here, so that a result that cannot be pickled is the call's error and not the child's end.
    try:
        outcome = (True, fn(*args))
        pickle.dumps(outcome)
        return outcome
    except Exception as error:
        return False, (type(error).__name__, str(error)[:500])


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Move both pipes to private descriptors: what the function prints must not land between the answers."""
    requests, replies = os.fdopen(os.dup(0), "rb", buffering=0), os.fdopen(os.dup(1), "wb", buffering=0)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    return requests, replies


def _silence_stderr() -> None:
    """Errors of starting are shown; afterwards warnings of maths libraries would flood the terminal."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)


def _limit_memory(memory: int) -> None:
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = memory if hard == resource.RLIM_INFINITY else min(memory, hard)
    # macOS refuses any limit on address space; there the deadline alone must do.
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _read_frame(source: BinaryIO) -> bytes | None:
    header = _read_exactly(source, _HEADER.size)
    return _read_exactly(source, _HEADER.unpack(header)[0]) if header is not None else None


def _read_exactly(source: BinaryIO, size: int) -> bytes | None:
    data = bytearray()
    while len(data) < size:
        chunk = source.read(size - len(data))
        if not chunk:
            return None
        data += chunk
    return bytes(data)


def _reply(replies: BinaryIO, outcome: tuple[bool, Any]) -> None:
    view = memoryview(_frame(pickle.dumps(outcome)))
    while view:
        view = view[replies.write(view):]
