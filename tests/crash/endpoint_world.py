"""What the endpoint tests share: servers that misbehave on demand, and a recipe that asks them.

The server's answer is a function of the request, so a run through any number of faults must end with the rows of a run
without. Its first word is the start of the request's hash, which is also what the server logs: so a row, a line of the
journal and a line of the server's log can be told to be of the same sample.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from crash_world import PATIENCE, RUNNER, TAG, tagged, wait_until

import factory
from factory.engine.run import RunReport
from warehouse import Warehouse
from warehouse.journal import SUFFIX, JournalIndex, answers

SERVER = Path(__file__).parents[2] / "benchmarks" / "scripted_server.py"
POISON = "this prompt always fails"
MARK = 12
"""Characters of a request's hash that begin its answer."""


class ScriptedServer:
    """One scripted server process; it dies with this process."""

    def __init__(self, folder: Path, *options: str, name: str = "server", **environment: str):
        folder.mkdir(parents=True, exist_ok=True)
        self.log, self.options, self.environment = folder / f"{name}.log", options, environment
        self.port = 0
        self.start()

    def start(self) -> None:
        """Start it, on the port that it had before."""
        command = [sys.executable, str(SERVER), "--port", str(self.port), "--log", str(self.log), *self.options]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        env={**os.environ, **self.environment})
        assert self.process.stdout is not None
        told = json.loads(self.process.stdout.readline())
        self.url, self.port = told["url"], told["port"]

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.communicate()

    def script(self, *rules: dict[str, Any]) -> None:
        """Replace the rules."""
        self._call("_script", json.dumps(rules).encode())

    def stats(self, *, reset: bool = False) -> dict[str, Any]:
        """Counts since the start; `reset` begins `most_in_flight` anew."""
        return self._call("_stats?reset=1" if reset else "_stats")

    def logged(self, what: str, since: int = 0) -> list[list[str]]:
        """[hash, max_tokens, digest of the text, others in hand] of the requests `received` or `finished`, in order,
        after the first `since` bytes of the log."""
        lines = self.log.read_bytes()[since:].decode().splitlines()
        return [line.split()[1:] for line in lines if line.startswith(what)]

    def received(self, since: int = 0) -> list[str]:
        """Hashes of the requests received, in order."""
        return [fields[0] for fields in self.logged("received", since)]

    def finished(self, since: int = 0) -> list[str]:
        """Hashes of the requests answered to the end."""
        return [fields[0] for fields in self.logged("finished", since)]

    def answers(self, since: int = 0) -> int:
        """How many answers it has sent; cheap enough to be asked all the time."""
        with self.log.open("rb") as file:
            file.seek(since)
            return file.read().count(b"finished ")

    def said(self) -> int:
        """Bytes of the log so far."""
        return self.log.stat().st_size

    def settled(self) -> None:
        """Wait until it has nothing in hand: what a killed client had sent is logged, and given up."""
        wait_until(lambda: not self.stats()["in_flight"], "an idle server")

    def _call(self, path: str, data: bytes | None = None) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/{path}", data, timeout=10) as answer:
            return json.loads(answer.read())


@contextmanager
def scripted(folder: Path, *options: str, **settings: str) -> Iterator[ScriptedServer]:
    """A server for the length of a block."""
    server = ScriptedServer(folder, *options, **settings)
    try:
        yield server
    finally:
        server.kill()


class EndpointWorld:
    """A warehouse, a file of prompts, and a recipe that asks servers for `n` answers to each."""

    def __init__(self, folder: Path, prompts: list[str], n: int = 2, max_tokens: int = 60):
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.root, self.prompts = folder, folder / "warehouse", prompts
        self.n, self.max_tokens = n, max_tokens
        self.tag = hashlib.sha256(str(folder).encode()).hexdigest()
        with (folder / "prompts.jsonl").open("w", encoding="utf-8") as file:
            file.writelines(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts)

    def write(self, *urls: str, step: dict[str, Any] | None = None, **model: Any) -> Path:
        """The recipe, with these settings of the step's runtime and of its model's; none of them is identity."""
        runtime = {"shard_rows": 8, **(step or {}),
                   "model": {"endpoint": list(urls), "deadline": 20, "silence": 30, **model}}
        recipe = {"recipe": "asked", "version": 1, "seed": 11,
                  "models": {"there": {"served": "scripted", "revision": "r1"}},
                  "steps": {"prompts": {"op": "source.files", "params": {"paths": ["prompts.jsonl"]}},
                            "samples": {"op": "generate.sample", "from": "prompts", "model": "there",
                                        "params": {"template": "plain", "n": self.n, "temperature": 0.8,
                                                   "max_tokens": self.max_tokens}, "runtime": runtime}}}
        path = self.folder / "asked.yaml"
        path.write_text(json.dumps(recipe))
        return path

    def run(self, *urls: str, executor: str = "inline", step: dict[str, Any] | None = None, **model: Any) -> RunReport:
        """Run in this process, to whatever end."""
        return factory.run(self.write(*urls, step=step, **model), warehouse=self.root, executor=executor)

    def start(self, *urls: str, executor: str = "local", step: dict[str, Any] | None = None,
              environment: dict[str, str] | None = None, **model: Any) -> subprocess.Popen[str]:
        """Run in a process group of its own; everything in it carries this world's tag."""
        command = [sys.executable, str(RUNNER), str(self.write(*urls, step=step, **model)), str(self.root),
                   "--executor", executor]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                                env={**os.environ, TAG: self.tag, **(environment or {})}, start_new_session=True)

    def living(self) -> list[psutil.Process]:
        """Processes of this world that are alive."""
        return tagged(self.tag)

    def rows(self) -> dict[tuple[str, int], tuple[str, str, int, int]]:
        """(prompt, sample) -> (response, finish_reason, tokens_in, tokens_out)."""
        frame = Warehouse(self.root).dataset("asked/samples").scan().collect()
        names = ("response", "finish_reason", "tokens_in", "tokens_out")
        return {(row["prompt"], row["sample_index"]): tuple(row[name] for name in names)  # type: ignore[misc]
                for row in frame.iter_rows(named=True)}

    def failures(self) -> list[dict[str, Any]]:
        """The failed rows."""
        return self._table("failures")

    def rejections(self) -> list[dict[str, Any]]:
        """The rejected rows."""
        return self._table("rejections")

    def _table(self, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = Warehouse(self.root).dataset("asked/samples").table(name).collect().to_dicts()
        return found

    def content_hash(self) -> str:
        """Content hash of the samples, of which there is one version."""
        found = [manifest for manifest in Warehouse(self.root).manifests() if manifest.dataset == "asked/samples"]
        assert len(found) == 1
        return found[0].content_hash

    def journalled(self) -> set[str]:
        """Beginnings of the hashes of all requests whose answer is whole in a journal."""
        found: set[str] = set()
        for folder in self.root.glob("work/*/journal"):
            keys = [one.key for segment in folder.glob(f"*{SUFFIX}") for one in answers(segment.read_bytes())]
            index = JournalIndex(folder)
            found.update(answer.text[:MARK] for answer in index.find(keys, [self.max_tokens] * len(keys)).values())
            index.close()
        return found


@contextmanager
def meanwhile(act: Callable[[], None]) -> Iterator[None]:
    """Do something in another thread while the block runs; its error is raised at the end of the block."""
    faults: list[BaseException] = []

    def guarded() -> None:
        try:
            act()
        except BaseException as error:
            faults.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    yield
    thread.join(PATIENCE)
    if faults:
        raise faults[0]


def until_finished(servers: list[ScriptedServer], answers: int) -> None:
    """Wait until the servers have finished so many answers together."""
    wait_until(lambda: sum(server.answers() for server in servers) >= answers, f"{answers} answers")


def asked_once(*servers: ScriptedServer) -> bool:
    """Whether no request was received twice, by whichever server."""
    counts = Counter(name for server in servers for name in server.received())
    return max(counts.values()) == 1
