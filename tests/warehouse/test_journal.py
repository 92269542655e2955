"""Journals: what was appended is found whole, whatever it says; what a crash cut or damaged says nothing."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from warehouse import journal
from warehouse.journal import Answer, JournalIndex, JournalWriter, Segment
from warehouse.journal import answers as every_answer

ENDS = ("stop", "length", "content_filter")
TEXTS = st.text(st.characters(exclude_categories=()), max_size=60)  # lone surrogates, line separators, controls


def key(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


@st.composite
def answers(draw: st.DrawFn) -> Answer:
    return Answer(key(draw(st.integers(0, 12))), draw(TEXTS), draw(st.sampled_from(ENDS)), draw(st.integers(0, 10**9)),
                  draw(st.integers(0, 40)), draw(st.integers(1, 40)))


def write(folder: Path, found: list[Answer]) -> None:
    writer = JournalWriter(folder)
    for answer in found:
        writer.append(answer)
    writer.close()


def told(source: Path | bytes) -> list[tuple[bytes, str, int]]:
    """Key, ending and length of every answer that a segment tells."""
    with closing(Segment(source)) as segment:
        return [row[:3] for frame in segment.endings() for row in frame.rows() if segment.sound(row[3])]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(answers(), max_size=12), max_size=3), st.integers(1, 40))
def test_an_answer_is_found_by_those_it_serves(tmp_path_factory: pytest.TempPathFactory,
                                               segments: list[list[Answer]], limit: int) -> None:
    folder = tmp_path_factory.mktemp("journal")
    for found in segments:
        write(folder, found)
    index = JournalIndex(folder)
    every = [answer for found in segments for answer in found]
    assert len(index) == len(every)
    keys = [key(number) for number in range(14)]
    found = index.find(keys, [limit] * len(keys))
    for name in keys:
        serving = [answer for answer in every if answer.key == name and answer.serves(limit)]
        assert (name in found) == bool(serving)
        assert name not in found or found[name] in serving
    paths = sorted(folder.iterdir()) if every else []
    assert Counter(one for path in paths for one in every_answer(path.read_bytes())) == Counter(every)
    expected = Counter((bytes.fromhex(one.key), one.finish_reason, one.tokens_out) for one in every)
    for whole in (False, True):
        assert Counter(one for path in paths for one in told(path.read_bytes() if whole else path)) == expected
    index.close()


def test_limits() -> None:
    done, cut = Answer(key(1), "", "stop", 1, 8, 16), Answer(key(1), "", "length", 1, 16, 16)
    assert [limit for limit in (7, 8, 16, 99) if done.serves(limit)] == [8, 16, 99]
    assert [limit for limit in (15, 16, 17) if cut.serves(limit)] == [16]


def test_a_tail_torn_anywhere_costs_its_own_answer_only(tmp_path: Path) -> None:
    made = [Answer(key(number), f"line\n{number} é\u2028", "stop", 1, 2, 9) for number in range(3)]
    write(tmp_path / "whole", made)
    data = next((tmp_path / "whole").iterdir()).read_bytes()
    ends = [at + 1 for at, byte in enumerate(data) if byte == 10]
    assert len(ends) == 3
    folder = tmp_path / "torn"
    folder.mkdir()
    for size in range(len(data)):
        (folder / "1-a.journal").write_bytes(data[:size])
        left = sum(end <= size for end in ends)
        index = JournalIndex(folder)
        assert index.find([one.key for one in made], [9] * 3) == {one.key: one for one in made[:left]}
        assert len(told(data[:size])) == len(told(folder / "1-a.journal")) == left
        index.close()


def test_damage_is_noticed(tmp_path: Path) -> None:
    made = [Answer(key(number), f"text {number}", "stop", 1, 2, 9) for number in range(3)]
    write(tmp_path, made)
    path = next(tmp_path.iterdir())
    good = path.read_bytes()
    start = good.index(b"\n") + 1
    for at in range(start, good.index(b"\n", start)):
        path.write_bytes(good[:at] + bytes([good[at] ^ 1]) + good[at + 1:])
        index = JournalIndex(tmp_path)
        found = index.find([one.key for one in made], [9] * 3)
        index.close()
        assert found[made[0].key] == made[0]
        assert found[made[2].key] == made[2]
        assert found.get(made[1].key, made[1]) == made[1]
        assert told(path) == [(bytes.fromhex(one.key), "stop", 2) for one in every_answer(path.read_bytes())]
    path.write_bytes(good[:start] + b"\0" * 4096 + b"\n" + good[start:])  # a block that never reached the platter
    index = JournalIndex(tmp_path)
    assert len(index.find([one.key for one in made], [9] * 3)) == 3
    index.close()


def test_what_was_appended_survives_a_kill(tmp_path: Path) -> None:
    code = ("import os, sys, signal; from pathlib import Path; from warehouse.journal import *\n"
            "writer = JournalWriter(Path(sys.argv[1]))\n"
            "for number in range(500):\n"
            "    writer.append(Answer('%064x' % number, 'text %d' % number, 'stop', 1, 2, 3))\n"
            "    print(number, flush=True)\n"
            "    if number == 321: os.kill(os.getpid(), signal.SIGKILL)\n")
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, timeout=60,
                          cwd=Path(__file__).parents[2], env=os.environ)
    last = int(done.stdout.split()[-1])
    index = JournalIndex(tmp_path)
    found = index.find([f"{number:064x}" for number in range(500)], [3] * 500)
    assert last == 321
    assert set(found) >= {f"{number:064x}" for number in range(last + 1)}
    index.close()


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="needs a system that lists open files")
def test_a_sync_that_failed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "FSYNC_SECONDS", 0.01)
    answer = Answer(key(1), "text", "stop", 1, 2, 9)
    for more in (True, False):
        writer = JournalWriter(tmp_path / str(more))
        writer.append(answer)
        (segment,) = (tmp_path / str(more)).iterdir()
        (file,) = (int(one) for one in os.listdir("/proc/self/fd")
                   if os.path.realpath(f"/proc/self/fd/{one}") == str(segment.resolve()))
        kept, (out, into) = os.dup(file), os.pipe()
        os.dup2(into, file)  # the disk is taken away: a pipe takes bytes and cannot be synced
        writer.append(answer)
        until = time.monotonic() + 20
        while any(one.name == "journal" for one in threading.enumerate()) and time.monotonic() < until:
            time.sleep(0.01)
        os.dup2(kept, file)  # and comes back
        if more:
            with pytest.raises(OSError, match="Invalid argument"):
                writer.append(answer)
        with pytest.raises(OSError, match="Invalid argument"):
            writer.close()
        writer.close()
        for one in (kept, out, into):
            os.close(one)


def test_a_folder_that_is_not_there_and_a_segment_without_a_line(tmp_path: Path) -> None:
    assert len(JournalIndex(tmp_path / "none")) == 0
    (tmp_path / "1-a.journal").touch()
    assert JournalIndex(tmp_path).find([key(1)], [5]) == {}
    JournalWriter(tmp_path / "unused").close()
    assert not (tmp_path / "unused").exists()
