"""Programs whose verdict is known: right ones, wrong ones, and ones that cheat."""

from __future__ import annotations

import json
from typing import Any

from factory.engine.op import Trial
from factory.verifiers.sandbox import SandboxMissing
from factory.verifiers.sandbox.bwrap import compiler

_ASSERTS = {"type": "asserts", "tests": ["assert double(2) == 4", "assert double(-3) == -6"]}
_CHECK = {"type": "check", "entry_point": "double", "prompt": "def double(x):\n    \"\"\"Twice x.\"\"\"\n",
          "test": "def check(candidate):\n    for x in range(5):\n        assert candidate(x) == x + x\n"}
_STDIO = {"type": "stdio", "inputs": ["2\n", "-3\n"], "outputs": ["4\n", "-6\n"]}

_CHEATS = (
    "import os\nos._exit(0)",
    "class Any(int):\n    def __eq__(self, other): return True\n    __hash__ = int.__hash__\n"
    "def double(x): return Any(0)",
    "import sys\nsys.exit(0)",
    "import builtins\nbuiltins.AssertionError = type('E', (Exception,), {})\ndef double(x): return None",
    "print('passed'); print('4')\ndef double(x): raise SystemExit(0)",
)


def trials(params: Any) -> list[Trial]:
    """For the languages that the params allow."""
    cases: list[tuple[str, dict[str, Any], bool]] = []
    if params.language != "cpp":
        cases += [(_fenced("def double(x):\n    return x * 2"), _ASSERTS, True),
                  (_fenced("def double(x):\n    return x + 2"), _ASSERTS, False),
                  (_fenced("def double(x):\n    return 2 * x"), _CHECK, True),
                  (_fenced("def double(x):\n    return 2 * x + (x == 4)"), _CHECK, False),
                  (_fenced("print(2 * int(input()))"), _STDIO, True),
                  (_fenced("print(4)"), _STDIO, False)]
        cases += [(_fenced(cheat), _ASSERTS, False) for cheat in _CHEATS]
    if params.language == "cpp" and compiler() is None:
        raise SandboxMissing("there is no g++ here: install it (Debian, Ubuntu: apt install g++)")
    if params.language != "python" and compiler() is not None:  # `auto` may meet Python alone
        cpp = "#include <iostream>\nint main() {{ long x; std::cin >> x; std::cout << {}; }}"
        cases += [(_fenced(cpp.format("2 * x"), "cpp"), _STDIO, True), (_fenced(cpp.format("x"), "cpp"), _STDIO, False)]
    return [Trial({params.response: response, params.tests: json.dumps(tests)}, "correct" if good else "incorrect")
            for response, tests, good in cases]


def _fenced(source: str, tag: str = "python") -> str:
    return f"<think>Let me see.</think>\n\n```{tag}\n{source}\n```\n"
