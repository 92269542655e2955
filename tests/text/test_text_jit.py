"""Where compiled code is kept, and under which digest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numba import config

from factory.text import jit
from factory.text.words import next_word


@jit.inlined
def _twice(value: int) -> int:
    return 2 * value


_SHIFT = np.int64(3)


def _plain(value: int) -> int:
    return _twice(value) + _SHIFT


def test_code_is_kept_and_right(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jit, "cache_folder", lambda: tmp_path)
    assert jit.kernel(_plain)(np.int64(4)) == 11
    assert list(tmp_path.glob("*/*/*.nbi"))
    assert config.CACHE_DIR == jit.config.CACHE_DIR


def test_a_change_in_what_is_called_or_read_changes_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    before = jit._digest(_plain)
    assert before == jit._digest(_plain)
    monkeypatch.setitem(_plain.__globals__, "_SHIFT", np.int64(4))
    changed = jit._digest(_plain)
    monkeypatch.setattr(jit, "_file", lambda path: b"another text")
    assert len({before, changed, jit._digest(_plain)}) == 3
    assert jit._digest(next_word.py_func)


def test_a_read_only_home_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jit.cache_folder.cache_clear()
    monkeypatch.setattr(config, "CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    assert jit.cache_folder() == tmp_path / "home" / "dataset-factory" / "kernels"
    jit.cache_folder.cache_clear()
    monkeypatch.setattr(jit, "_writable", lambda folder: False)
    assert jit.cache_folder().name.startswith("dataset-factory-kernels-")
    jit.cache_folder.cache_clear()
    monkeypatch.setattr(config, "CACHE_DIR", str(tmp_path))
    assert jit.cache_folder() == tmp_path
    jit.cache_folder.cache_clear()
