"""The run that is killed again and again: what test_endpoint_kills asserts and the benchmark `resume` prints."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from crash_world import World, wait_until
from endpoint_world import MARK, EndpointWorld, ScriptedServer, scripted

RATE = 250.0


class KillRun:
    """`samples` answers, four to a prompt, with `kills` kills of the whole process group at seeded moments.

    A third of the kills fall some hundredths of a second after the start of a driver, the others when a chosen number
    of answers is in the journal or has been sent since.
    """

    def __init__(self, folder: Path, kills: int, samples: int, seed: int = 0):
        self.folder, self.kills, self.samples = folder, kills, samples
        self.chance = random.Random(seed)
        prompts = [f"Prove lemma {number}." for number in range(samples // 4)]
        self.world = EndpointWorld(folder / "killed", prompts, n=4)
        self.calm = EndpointWorld(folder / "calm", prompts, n=4)
        self.table: list[dict[str, Any]] = []

    def run(self) -> dict[str, Any]:
        """Kill and go on until it succeeds; then what was repeated and lost, and whether the rows are the same. `sent`
        and `kept` are the answers sent, and in the journal, after the last kill."""
        with scripted(self.folder / "calm", "--latency", "0.02") as server:
            report = self.calm.run(server.url)
            assert report.status == "succeeded", report.errors
        with scripted(self.folder / "killed", "--rate", str(RATE), "--latency", "0.05") as server:
            repeated = sum(self._killed(server, moment) for moment in self._moments())
            kept, said, sent = self.world.journalled(), server.said(), len(set(server.finished()))
            code, told = World.end(self.world.start(server.url))
            assert (code, told["status"]) == (0, "succeeded"), told
            repeated += self._again(server, said, kept)
            asked = server.received()
        expected, rows = self.calm.rows(), self.world.rows()
        return {"kills": len(self.table), "samples": self.samples, "repeated": repeated,
                "lost": len(expected.keys() - rows.keys()),
                "same_rows": rows == expected and self.world.content_hash() == self.calm.content_hash(),
                "in_flight_at_kills": sum(row["in flight"] for row in self.table),
                "sent": sent, "kept": len(kept),
                "asked_again": len(asked) - len(set(asked))}

    def _moments(self) -> list[int | float]:
        """Numbers of answers (int), between them seconds after a start (float)."""
        early = self.kills // 3
        answers: list[int | float] = sorted(self.chance.randrange(1, self.samples) for _ in range(self.kills - early))
        for _ in range(early):
            answers.insert(self.chance.randrange(len(answers) + 1), self.chance.uniform(0.05, 2.0))
        return answers

    def _killed(self, server: ScriptedServer, moment: int | float) -> int:
        """Start a driver, kill it at the moment, and tell how many finished samples it had asked for again."""
        kept, said = self.world.journalled(), server.said()
        driver = self.world.start(server.url)
        if isinstance(moment, float):
            time.sleep(moment)
        else:
            wait_until(lambda: len(kept) + server.answers(said) >= moment or driver.poll() is not None,
                       f"{moment} answers")
        ended = driver.poll() is not None
        with suppress(ProcessLookupError):
            os.killpg(driver.pid, signal.SIGKILL)
        driver.communicate()
        wait_until(lambda: not self.world.living(), "the end of every process of a killed driver")
        server.settled()
        asked, now = server.received(said), self.world.journalled()
        again = self._again(server, said, kept)
        self.table.append({"moment": moment, "asked": len(asked), "finished": len(now) - len(kept),
                           "in flight": sum(name[:MARK] not in now for name in asked),
                           "sent, not kept": len({name[:MARK] for name in server.finished(said)} - now),
                           "repeated": again, "done before": ended})
        return again

    @staticmethod
    def _again(server: ScriptedServer, said: int, kept: set[str]) -> int:
        return sum(name[:MARK] in kept for name in server.received(said))
