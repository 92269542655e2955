"""What generation costs beside the model: the machinery alone, several servers, and real engines.

    make bench NAME=generate
    python benchmarks/generate.py --part replay memory servers     # without vLLM
    python benchmarks/generate.py --part replay --samples 20000    # small

replay    A `generate.sample` step over recorded-looking answers (each a stretch of its own row's text), on two worker
          processes, journalled and committed: 2 KB answers for `driver_ms_per_sample` and `replay_samples_per_s`, 20 KB
          ones for `replay_mb_per_s`. CPU is user + system of all processes. The prompts are read in an earlier run.
          Figures are of whole runs, start of all processes included; the table has them without it, too.
memory    Peak memory of the largest process (VmHWM, looked at every 50 ms) at 10 000 and a million samples of 2 KB.
servers   Two scripted servers with different set rates: answers/s of a step that asks both over the sum of what steps
          that ask one get. From the first request received to the last answer sent.
vllm, endpoint    Against the bare engine and a bare client: see `generate_live`.

Prints a table for each part, then one JSON object as the last line; a part that was not run has null there.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
import psutil
from rich.console import Console
from rich.table import Table

PARTS = ("replay", "memory", "servers", "endpoint", "vllm")
KEYS = ("vllm_ratio", "endpoint_ratio", "driver_ms_per_sample", "replay_samples_per_s", "replay_mb_per_s",
        "rss_10k_mb", "rss_1m_mb", "two_server_share")
PER_PROMPT = 4
POOL_BYTES = 16 << 20
DRIVER = """
import json, sys, time, factory
recipe, root, until = sys.argv[1:]
started = time.perf_counter()
report = factory.run(recipe, warehouse=root, until=until, executor="local", workers=2)
seconds = time.perf_counter() - started
step = report.steps[-1]
print(json.dumps({"status": report.status, "seconds": seconds, "kept": step.counts.kept,
                  "requested": step.usage.requested, "errors": [str(error) for error in report.errors]}))
"""


@dataclass
class Watched:
    """A driver's run: what it said, CPU seconds of all its processes, and the peak of the largest."""

    said: dict[str, Any]
    cpu: dict[int, float] = field(default_factory=dict)
    peak_mb: dict[int, float] = field(default_factory=dict)

    @property
    def cpu_seconds(self) -> float:
        return sum(self.cpu.values())

    @property
    def largest_mb(self) -> float:
        return max(self.peak_mb.values())


def drive(recipe: Path, root: Path, until: str = "samples") -> Watched:
    """Run a recipe in processes of its own, to a good end."""
    started = subprocess.Popen([sys.executable, "-c", DRIVER, str(recipe), str(root), until], stdout=subprocess.PIPE,
                               text=True)
    watched, ended = Watched({}), threading.Event()
    watcher = threading.Thread(target=_watch, args=(psutil.Process(started.pid), watched, ended))
    watcher.start()
    out, _ = started.communicate()
    ended.set()
    watcher.join()
    watched.said = json.loads(out.splitlines()[-1])
    if watched.said["status"] != "succeeded":
        raise SystemExit(f"a run {watched.said['status']}: {watched.said['errors']}")
    return watched


def _watch(driver: psutil.Process, watched: Watched, ended: threading.Event) -> None:
    while not ended.wait(0.25):
        try:
            for process in (driver, *driver.children(recursive=True)):
                _look(process, watched)
        except psutil.NoSuchProcess:
            continue


def _look(process: psutil.Process, watched: Watched) -> None:
    """Notes the CPU and the peak memory of a process so far. Not `ru_maxrss`: that starts at what the parent had."""
    try:
        times = process.cpu_times()
        status = Path(f"/proc/{process.pid}/status").read_text()
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return
    _, found, rest = status.partition("VmHWM:")
    if found:  # a process that has ended has none
        watched.cpu[process.pid] = times.user + times.system
        watched.peak_mb[process.pid] = int(rest.split()[0]) / 1024


def replay_recipe(folder: Path, samples: int, text: str, source: Path, shard_rows: int) -> Path:
    """A recipe that asks the replay model for `samples` answers, each made by the rule `text`."""
    recipe = {"recipe": "replayed", "version": 1, "seed": 5,
              "models": {"rules": {"replay": {"rules": [{"text": text}]}}},
              "steps": {"prompts": {"op": "source.files", "params": {"paths": [str(source)]}},
                        "samples": {"op": "generate.sample", "from": "prompts", "model": "rules",
                                    "params": {"template": "plain", "n": PER_PROMPT, "temperature": 1.0,
                                               "max_tokens": 100_000}, "runtime": {"shard_rows": shard_rows}}}}
    path = folder / f"replay{samples}.yaml"
    path.write_text(json.dumps(recipe))
    return path


def bodies(prompts: int, size: int) -> pl.DataFrame:
    """Prompts with `size` bytes of reasoning-like text each; texts come again after `POOL_BYTES`, which no compressor
    looks back to."""
    from store import texts

    pool = texts(max(1, min(prompts, POOL_BYTES // size)), size)
    number = pl.int_range(prompts, eager=True)
    return pl.DataFrame({"prompt": pl.select(pl.format("What follows from lemma {}?", number)).to_series(),
                         "body": pool.gather(number % pool.len())})


def replayed(folder: Path, samples: int, size: int) -> Watched:
    """A step of `samples` answers of `size` bytes; the prompts are read before."""
    folder.mkdir()
    source, answer = folder / "prompts.parquet", size - 8
    bodies(samples // PER_PROMPT, size * PER_PROMPT).write_parquet(source)
    text = (f"{{{{ body[{answer} * sample_index:{answer} * (sample_index + 1)] }}}} "
            "{{ rng.integer(100000, 999999) }}")
    recipe = replay_recipe(folder, samples, text, source, max(1, (32 << 20) // (size * PER_PROMPT)))
    drive(recipe, folder / "warehouse", "prompts")
    return drive(recipe, folder / "warehouse")


def part_replay(folder: Path, asked: argparse.Namespace, console: Console) -> dict[str, float]:
    """The machinery alone."""
    idle = replayed(folder / "idle", 8, 2000)
    table = Table("answers", "bytes", "seconds", "answers/s", "MB/s", "CPU ms each", "peak MB", title="replay backend")
    found = {}
    for samples, size in ((asked.samples, 2000), (max(40, asked.samples // 10), 20_000)):
        run = replayed(folder / f"replay{size}", samples, size)
        for title, seconds, cpu in (("", run.said["seconds"], run.cpu_seconds),
                                    (" less start-up", run.said["seconds"] - idle.said["seconds"],
                                     run.cpu_seconds - idle.cpu_seconds)):
            table.add_row(f"{samples:,}{title}", f"{size:,}", f"{seconds:.1f}", f"{samples / seconds:,.0f}",
                          f"{samples * size / seconds / 1e6:.1f}", f"{1000 * cpu / samples:.3f}",
                          f"{run.largest_mb:,.0f}")
        found[size] = (samples, run)
    console.print(table)
    (count, small), (fewer, large) = found[2000], found[20_000]
    return {"driver_ms_per_sample": round(1000 * small.cpu_seconds / count, 4),
            "replay_samples_per_s": round(count / small.said["seconds"]),
            "replay_mb_per_s": round(fewer * 20_000 / large.said["seconds"] / 1e6, 1)}


def part_memory(folder: Path, asked: argparse.Namespace, console: Console) -> dict[str, float]:
    """Peak memory at few and at many samples. The text is made of pieces of one of 32 KB, so that no file of 2 GB has
    to be read for it."""
    from store import texts

    whole = texts(1, 32_000)[0].replace("{", "(").replace("}", ")").replace("\\", "/").replace("'", "’")
    text = (f"{{% set whole = '{whole}' %}}{{% for _ in range(8) %}}{{% set at = rng.integer(0, {len(whole) - 250}) %}}"
            "{{ whole[at:at + 250] }}{% endfor %}")
    table = Table("answers", "seconds", "largest process MB", title="memory")
    peaks = []
    for samples in (asked.few, asked.many):
        inner = folder / f"memory{samples}"
        inner.mkdir()
        bodies(samples // PER_PROMPT, 8).select("prompt").write_parquet(inner / "prompts.parquet")
        recipe = replay_recipe(inner, samples, text, inner / "prompts.parquet", 1024)
        drive(recipe, inner / "warehouse", "prompts")
        run = drive(recipe, inner / "warehouse")
        peaks.append(round(run.largest_mb, 1))
        table.add_row(f"{samples:,}", f"{run.said['seconds']:.1f}", f"{run.largest_mb:,.0f}")
    console.print(table)
    return {"rss_10k_mb": peaks[0], "rss_1m_mb": peaks[1]}


def start_server(folder: Path, rate: float) -> tuple[subprocess.Popen[bytes], str]:
    """A scripted server that gives so many answers a second, and its URL."""
    command = [sys.executable, str(Path(__file__).with_name("scripted_server.py")), "--rate", str(rate),
               "--latency", "0.2"]
    server = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=folder)
    assert server.stdout is not None
    return server, json.loads(server.stdout.readline())["url"]


def ask_servers(folder: Path, urls: list[str], samples: int) -> float:
    """Answers/s of a step that asks these servers, from the first request received to the last answer sent."""
    from urllib.request import urlopen

    def stats(url: str) -> dict[str, Any]:
        with urlopen(f"{url.removesuffix('/v1')}/_stats?reset=1") as answer:
            return json.loads(answer.read())

    folder.mkdir()
    source = folder / "prompts.parquet"
    bodies(samples // PER_PROMPT, 8).select("prompt").write_parquet(source)
    recipe = json.loads(replay_recipe(folder, samples, "-", source, 64).read_text())
    recipe["models"] = {"rules": {"served": "scripted", "revision": "r1"}}
    recipe["steps"]["samples"]["runtime"]["model"] = {"endpoint": urls}
    path = folder / "asked.yaml"
    path.write_text(json.dumps(recipe))
    drive(path, folder / "warehouse", "prompts")
    before = [stats(url)["finished"] for url in urls]
    drive(path, folder / "warehouse")
    after = [told for told in map(stats, urls) if told["last_at"]]
    answers = sum(told["finished"] for told in after) - sum(before)
    return answers / (max(told["last_at"] for told in after) - min(told["first_at"] for told in after))


def part_servers(folder: Path, asked: argparse.Namespace, console: Console) -> dict[str, float]:
    """Two servers at once, over the sum of each alone."""
    started = [start_server(folder, rate) for rate in asked.rates]
    urls = [url for _, url in started]
    table = Table("servers", "answers/s", title="servers with set rates")
    try:
        alone = [ask_servers(folder / f"alone{rate}", [url], int(rate * asked.seconds) // 4 * 4)
                 for rate, url in zip(asked.rates, urls, strict=True)]
        both = ask_servers(folder / "both", urls, int(sum(asked.rates) * asked.seconds) // 4 * 4)
    finally:
        for server, _ in started:
            server.kill()
            server.communicate()
    for rate, found in zip((*asked.rates, "both"), (*alone, both), strict=True):
        table.add_row(str(rate), f"{found:,.1f}")
    console.print(table)
    return {"two_server_share": round(both / sum(alone), 4)}


def read_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--samples", type=int, default=200_000, help="replay: answers of 2 KB; a tenth of 20 KB")
    parser.add_argument("--few", type=int, default=10_000, help="memory: the smaller run")
    parser.add_argument("--many", type=int, default=1_000_000, help="memory: the larger run")
    parser.add_argument("--rates", type=float, nargs=2, default=(150.0, 450.0), help="servers: answers a second")
    parser.add_argument("--seconds", type=float, default=8.0, help="servers: length of each run")
    parser.add_argument("--prompts", type=int, default=256, help="vllm, endpoint: requests of a run")
    parser.add_argument("--pairs", type=int, default=5, help="vllm, endpoint: interleaved pairs")
    parser.add_argument("--max-tokens", type=int, default=64, help="vllm, endpoint: most new tokens of an answer")
    parser.add_argument("--slots", type=int, default=64, help="vllm, endpoint: sequences written at once")
    return parser.parse_args()


def main() -> None:
    asked, console = read_options(), Console(width=120)
    figures: dict[str, float | None] = dict.fromkeys(KEYS)
    for part in PARTS:  # real engines last, whatever the order asked for
        if part not in asked.part:
            continue
        with tempfile.TemporaryDirectory() as folder:
            started = time.perf_counter()
            if part in ("endpoint", "vllm"):
                from generate_live import part_endpoint, part_vllm

                figures |= {"endpoint": part_endpoint, "vllm": part_vllm}[part](Path(folder), asked, console)
            else:
                figures |= {"replay": part_replay, "memory": part_memory,
                            "servers": part_servers}[part](Path(folder), asked, console)
            console.print(f"{part}: {time.perf_counter() - started:.0f} s")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
