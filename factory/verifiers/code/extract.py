"""Taking the program out of a response.

After the thinking, the last complete fenced block in the wanted language counts; a block without a language tag
only where no block has that tag; a block in another language never. A fence that is not closed is an unfinished
answer. A block in a list is as far from the margin as its fence. Where the function that is wanted is known, the last
block that defines it goes before a later one that only uses it. Without any fence the whole answer counts if it is
nothing but a program.
"""

from __future__ import annotations

import ast
import re
from typing import NamedTuple

from factory.engine.text import split_response

LONGEST = 400_000
"""Characters; a longer program is not read."""
LONGEST_ANSWER = 4_000_000
"""Characters; in a longer answer no program is looked for."""

_FENCE = re.compile(  # possessive: a line has one reading
    r"^([ \t]{0,16}+)(`{3,}+|~{3,}+)[ \t]*+(\{?\.?[\w+#.-]*+)[^\n`]*+$", re.MULTILINE)
_TAGS = {
    "python": frozenset({"python", "python3", "py", "py3", "python2", "pypy", "pypy3"}),
    "cpp": frozenset({"cpp", "c++", "cc", "cxx", "c++17", "c++14", "c++20", "cpp17", "cpp20", "g++"}),
}
_CPP_WHOLE = re.compile(  # atomic and possessive: a comment has one reading, so a text without an end costs no more
    r"(?:\s+|//[^\n]*\n|(?>/\*.*?\*/))*+#\s*include\b.*\}\s*\Z", re.DOTALL)


class Block(NamedTuple):
    """A fenced block: its language tag in lower case, its text."""

    tag: str
    text: str


class Code(NamedTuple):
    """A program and its language (`python`, `cpp`)."""

    text: str
    language: str


def blocks(answer: str) -> list[Block]:
    """Complete fenced blocks, in order."""
    found: list[Block] = []
    opened: re.Match[str] | None = None
    for fence in _FENCE.finditer(answer):
        if opened is None:
            opened = fence
        elif fence[2].startswith(opened[2]) and not fence[3] and _width(fence[1]) < _width(opened[1]) + 4:
            text = answer[opened.end() + 1:fence.start()]
            found.append(Block(opened[3].strip("{.").lower(), _dedented(text, opened[1])))
            opened = None
    return found


def _width(space: str) -> int:
    return len(space.expandtabs(4))


def _dedented(text: str, margin: str) -> str:
    if not margin:
        return text
    return re.sub(rf"^(?:{margin}|[ \t]{{0,{len(margin)}}})", "", text, flags=re.MULTILINE)


def take_code(response: str, language: str = "python", stub: str = "", entry_point: str | None = None) -> Code | None:
    """The program in a response; None where there is none.

    `language` is `python`, `cpp` or `auto` (by the tag). `stub` is the beginning of a program that a bare answer may
    continue (a function's head, say); `entry_point` the function or method that is wanted.
    """
    answer = split_response(response).answer
    if answer is None or len(answer) > LONGEST_ANSWER:
        return None
    wanted = ("python", "cpp") if language == "auto" else (language,)
    if found := blocks(answer):
        programs = [(block.text, name) for block in found for name in wanted if block.tag in _TAGS[name]] or [
            (block.text, _guess(block.text, wanted)) for block in found if not block.tag]
        return _capped(*_defining(programs, entry_point)) if programs else None
    if "```" in answer or "~~~" in answer or len(answer) > LONGEST:
        return None
    return next((Code(answer, name) for name in wanted if _whole(answer, name, stub)), None)


def _defining(programs: list[tuple[str, str]], name: str | None) -> tuple[str, str]:
    if name:
        begin = re.compile(rf"^[ \t]*(?:async[ \t]+)?(?:def|class)[ \t]+{re.escape(name)}\b|^{re.escape(name)}[ \t]*=",
                           re.MULTILINE)
        return next((program for program in reversed(programs) if begin.search(program[0])), programs[-1])
    return programs[-1]


def _capped(text: str, language: str) -> Code | None:
    return Code(text, language) if text.strip() and len(text) <= LONGEST else None


def _guess(text: str, wanted: tuple[str, ...]) -> str:
    return "cpp" if "cpp" in wanted and (len(wanted) == 1 or "#include" in text) else "python"


def _whole(answer: str, language: str, stub: str) -> bool:
    if language == "cpp":
        return _CPP_WHOLE.match(answer) is not None
    if stub and _parses(stub + answer) is not None and answer[:1] in " \t\n":
        return True
    tree = _parses(answer)
    # A lone word or a number parses too, and is no program.
    return tree is not None and any(not isinstance(node, ast.Expr) or isinstance(node.value, ast.Call)
                                    for node in tree.body)


def _parses(text: str) -> ast.Module | None:
    try:
        return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def defines(text: str, name: str) -> bool:
    """Whether Python source binds a name at its top level."""
    tree = _parses(text)
    if tree is None:
        return re.search(rf"^(?:async\s+)?(?:def|class)\s+{re.escape(name)}\b|^{re.escape(name)}\s*=", text,
                         re.MULTILINE) is not None
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)) and node.name == name:
            return True
        if isinstance(node, ast.Assign) and any(isinstance(to, ast.Name) and to.id == name for to in node.targets):
            return True
        if isinstance(node, (ast.Import, ast.ImportFrom)) and any((to.asname or to.name) == name for to in node.names):
            return True
    return False
