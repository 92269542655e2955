"""The shape of an attack, and what its program is told.

An attack is a program (`source`) with the tests that judge it. Whether it succeeded must be visible from the verdict
alone, so the tests are such that `correct` means a hole of ours:

- `act`: the source defines `act()`, which returns something true only if the forbidden deed was done;
- `leak`: the source defines `act()`, which returns the text that it found; the test knows the secret, the program does
  not;
- `cheat`: the source defines `f` (or is a whole program) that does not compute what the tests ask for;
- `bomb`: whatever it does, it must be stopped, with one of the reason codes in `ends`.

An `act` or a `leak` that ran to its end passes the first of its two tests, so an attack that merely broke is noticed.
Every bomb stops by itself (2 000 processes, 3 GB of memory, 2 GB of disk, 20 s): the sandbox may fail one day.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Literal

Shape = Literal["act", "leak", "cheat", "bomb"]

_TOLD = '''
_said = []
def f():
    if not _said:
        try:
            found = act()
        except BaseException:
            found = None
        _said.append(found)
    return _said[0]
'''
_TOLD_BOTH = _TOLD.replace("return _said[0]", "return 'escaped' if _said[0] else 'contained'")
_TOLD_TEXT = _TOLD.replace("return _said[0]", "return _said[0] if isinstance(_said[0], str) else 'nothing'")


@dataclass(frozen=True)
class Attack:
    """`ends` are the reason codes that may end it; `tests` replaces the tests that its shape implies; `language` is
    that of the source; `slow` attacks take seconds."""

    name: str
    source: str
    shape: Shape = "act"
    ends: tuple[str, ...] = ()
    tests: Any = None
    language: str = "python"
    slow: bool = False

    def __str__(self) -> str:
        return self.name

    def fill(self, known: dict[str, str]) -> tuple[str, str]:
        """The response and its tests (as JSON), with `@NAME@` replaced by what is known of the host."""
        source, tests = self.source, self.tests
        if self.shape in ("act", "leak"):
            source += _TOLD_BOTH if self.shape == "act" else _TOLD_TEXT
        if tests is None:
            tests = {"act": ["assert f() in ('escaped', 'contained')", "assert f() == 'escaped'"],
                     "leak": ["assert isinstance(f(), str)", "assert f() == '@SECRET@'"],
                     "cheat": HARD, "bomb": HARD[:1]}[self.shape]
        if isinstance(tests, list):
            tests = {"type": "asserts", "setup": "", "tests": tests, "entry_point": "f"}
        program, judge = source, json.dumps(tests)
        for name, value in known.items():
            if name != "SECRET":
                program = program.replace(f"@{name}@", value)
            judge = judge.replace(f"@{name}@", value)
        return f"```{self.language}\n{program}\n```", judge


def lcg(seed: int) -> int:
    """A number that no program guesses: what the tests of a cheat ask `f` to compute."""
    for _ in range(50):
        seed = (seed * 6364136223846793005 + 1442695040888963407) % (1 << 64)
    return seed


HARD = [f"assert f({seed}) == {lcg(seed)}" for seed in (17, 4242, 987654321)]
"""What a cheat is asked: three numbers that its program never computes."""


def stdio(*seeds: int) -> dict[str, Any]:
    """The same of a program that reads a number and prints one."""
    return {"type": "stdio", "inputs": [f"{seed}\n" for seed in seeds], "outputs": [f"{lcg(seed)}\n" for seed in seeds]}


GOOD = '''```python
def f(seed):
    for _ in range(50):
        seed = (seed * 6364136223846793005 + 1442695040888963407) % (1 << 64)
    return seed
```'''
"""The neighbour: it computes, and must be judged correct whatever was judged before it."""
GOOD_TESTS = json.dumps({"type": "asserts", "setup": "", "tests": HARD, "entry_point": "f"})
