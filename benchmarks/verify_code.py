"""verify.code against plain execution: right programs, mutants, and programs per second.

    make bench NAME=verify_code

1. The canonical solutions of HumanEval (164) and MBPP (974) must pass; those that do not are listed.
2. Each solution is changed in one place (an operator, a constant, a bound), chosen by a hash of its name. The verdict
   must be that of plain execution: the same interpreter in an ordinary process, program and tests in one file, three
   times. Both sides have the same CPU time: five times what the solution took, at least two seconds. A mutant whose
   plain verdict is not the same three times is listed and not counted.
3. Programs per second, with two processes each: ours, and the naive way (bubblewrap and a fresh interpreter for each
   test, program and test in one process), on the same programs.

The last line is JSON: humaneval_pass, mbpp_pass, mutants, mutants_same_verdict, speedup.
"""

from __future__ import annotations

import ast
import gzip
import hashlib
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from factory.verifiers.code import check_code
from factory.verifiers.sandbox import Limits
from factory.verifiers.sandbox.bwrap import find_python

LEAST_SECONDS, TIMES = 2.0, 5.0
ROUNDS, AGAIN = 6, 4
GENEROUS = Limits(seconds=20.0, total=60.0)
NAIVE = ("bwrap", "--unshare-all", "--die-with-parent", "--ro-bind", "/usr", "/usr", "--symlink", "usr/lib", "/lib",
         "--symlink", "usr/lib64", "/lib64", "--symlink", "usr/bin", "/bin", "--proc", "/proc", "--dev", "/dev",
         "--tmpfs", "/tmp", "/usr/bin/python3", "-I", "-S", "-c")


@dataclass(frozen=True)
class Problem:
    """A program that is right, its tests as the data set has them, and as statements to append."""

    name: str
    program: str
    tests: dict[str, Any]
    plain: tuple[str, ...]


def find_data() -> Path:
    """The folder with the data sets, beside the repository."""
    for folder in Path(__file__).resolve().parents:
        if (folder / "shared" / "data" / "code").is_dir():
            return folder / "shared" / "data" / "code"
    sys.exit("verify_code needs HumanEval.jsonl.gz and mbpp.jsonl in a folder shared/data/code beside the repository")


def load() -> list[Problem]:
    """Both sets."""
    data, found = find_data(), []
    with gzip.open(data / "HumanEval.jsonl.gz", "rt", encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            tests = {name: row[name] for name in ("test", "entry_point", "prompt")}
            found.append(Problem(row["task_id"], row["prompt"] + row["canonical_solution"], tests,
                                 (f"{row['test']}\ncheck({row['entry_point']})",)))
    for row in map(json.loads, (data / "mbpp.jsonl").read_text("utf-8").splitlines()):
        tests = {name: row[name] for name in ("test_list", "test_setup_code")}
        found.append(Problem(f"MBPP/{row['task_id']}", row["code"].replace("\r\n", "\n"), tests,
                             tuple(f"{row['test_setup_code']}\n{test}" for test in row["test_list"])))
    return found


class Mutation(ast.NodeTransformer):
    """Changes place number `wanted`; counts places in `seen`. Where a program has no operator and no constant, what it
    returns is a place (`results`)."""

    _OPERATORS: ClassVar[dict[type, type]] = {
        ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
        ast.Mod: ast.FloorDiv, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
        ast.NotEq: ast.Eq, ast.And: ast.Or, ast.Or: ast.And, ast.BitAnd: ast.BitOr, ast.BitXor: ast.BitAnd,
        ast.BitOr: ast.BitAnd, ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
        ast.Pow: ast.Mult, ast.LShift: ast.RShift, ast.RShift: ast.LShift, ast.USub: ast.UAdd,
    }

    def __init__(self, wanted: int, function: str | None, results: bool = False):
        self.wanted, self.function, self.results, self.seen, self.inside = wanted, function, results, 0, 0

    def _turn(self) -> bool:
        self.seen += 1
        return self.seen - 1 == self.wanted

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        begins = self.inside > 0 or self.function in (None, node.name)
        self.inside += begins
        node.body = [self.visit(child) for child in node.body]
        self.inside -= begins
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        return node if isinstance(node.value, ast.Constant) else self.generic_visit(node)

    def visit_Return(self, node: ast.Return) -> ast.AST:
        self.generic_visit(node)
        if self.inside and self.results and self._turn():
            return ast.Return(ast.List([node.value or ast.Constant(None)], ast.Load()))
        return node

    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        operator = getattr(node, "op", None) or (getattr(node, "ops", None) or [None])[0]
        if self.inside and type(operator) in self._OPERATORS and self._turn():
            fresh = self._OPERATORS[type(operator)]()
            if isinstance(node, ast.Compare):
                node.ops = [fresh, *node.ops[1:]]
            else:
                node.op = fresh  # type: ignore[attr-defined]
        elif self.inside and isinstance(node, ast.Constant) and type(node.value) in (int, float, bool, str) \
                and self._turn():
            return ast.Constant(not node.value if isinstance(node.value, bool) else node.value + type(node.value)(1))
        return node


def mutate(problem: Problem) -> str | None:
    """The program with one change; None where there is nothing to change. Other functions of a HumanEval prompt stay as
    they are: the tests have them from the prompt."""
    function = problem.tests.get("entry_point")
    results = False
    count = Mutation(-1, function)
    count.visit(ast.parse(problem.program))
    if not count.seen:
        results, count = True, Mutation(-1, function, results=True)
        count.visit(ast.parse(problem.program))
    if not count.seen:
        return None
    digest = hashlib.sha256(problem.name.encode()).digest()
    tree = Mutation(int.from_bytes(digest[:4], "big") % count.seen, function, results).visit(ast.parse(problem.program))
    return ast.unparse(ast.fix_missing_locations(tree))


def fenced(program: str) -> str:
    """As a response."""
    return f"```python\n{program}\n```"


def judged(task: tuple[Problem, str, Limits]) -> tuple[str, str, float]:
    """Our verdict, and how long it took."""
    problem, program, limits = task
    began = time.perf_counter()
    verdict = check_code(fenced(program), problem.tests, limits=limits)
    return verdict.label, f"{verdict.reason_code}: {verdict.reason}", time.perf_counter() - began


def plain(task: tuple[Problem, str, Limits]) -> list[bool]:
    """Three plain runs: program and tests in one file."""
    problem, program, limits = task
    source = "\n".join([program, *problem.plain, "print('end of the tests')"])

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (int(limits.seconds),) * 2)
        resource.setrlimit(resource.RLIMIT_AS, (limits.memory, limits.memory))

    verdicts = []
    for _ in range(3):
        try:
            done = subprocess.run([find_python()[0], "-s", "-c", source], capture_output=True, timeout=120, check=False,
                                  preexec_fn=limit, stdin=subprocess.DEVNULL, env={"PYTHONHASHSEED": "0"})
            verdicts.append(done.returncode == 0 and done.stdout.endswith(b"end of the tests\n"))
        except subprocess.TimeoutExpired:
            verdicts.append(False)
    return verdicts


def naive(problem: Problem) -> bool:
    """One bubblewrap for each test."""
    return all(subprocess.run([*NAIVE, f"{problem.program}\n{test}"], capture_output=True, check=False).returncode == 0
               for test in problem.plain)


def ours(problem: Problem) -> bool:
    """The same, by us."""
    return judged((problem, problem.program, GENEROUS))[0] == "correct"


def compare_speed(pool: Any, problems: list[Problem]) -> float:
    """Our programs per second over those of the naive way, in turns, so that both meet the same machine."""
    pool.map(ours, problems[:16])
    seconds = dict.fromkeys((ours, naive), 0.0)
    done = dict.fromkeys((ours, naive), 0)
    for start in range(ROUNDS):
        for work, again in ((ours, AGAIN), (naive, 1)):
            part = problems[start::ROUNDS] * again
            began = time.perf_counter()
            passed = sum(pool.map(work, part, chunksize=4))
            seconds[work] += time.perf_counter() - began
            done[work] += len(part)
            if passed != len(part):
                print(f"  {work.__name__}: {len(part) - passed} of {len(part)} did not pass")
    rates = {work: done[work] / seconds[work] for work in seconds}
    for work, rate in rates.items():
        print(f"  {work.__name__:6s} {rate:8.1f} programs/s")
    return rates[ours] / rates[naive]


def canonical(pool: Any, problems: list[Problem]) -> tuple[dict[str, bool], dict[str, float]]:
    """Which solutions pass, and their seconds."""
    tasks = [(problem, problem.program, GENEROUS) for problem in problems]
    passed, seconds = {}, {}
    for problem, (label, reason, took) in zip(problems, pool.imap(judged, tasks, chunksize=8), strict=True):
        passed[problem.name], seconds[problem.name] = label == "correct", took
        if label != "correct":
            print(f"  does not pass: {problem.name}: {reason}")
    return passed, seconds


def compare(pool: Any, problems: list[Problem], seconds: dict[str, float]) -> tuple[int, int]:
    """Mutants with a stable plain verdict, and how many of them we judge the same."""
    tasks = []
    for problem in problems:
        changed = mutate(problem)
        if changed is not None:
            budget = float(round(max(LEAST_SECONDS, TIMES * seconds[problem.name])))
            tasks.append((problem, changed, Limits(seconds=budget, total=budget)))
    expected = pool.map(plain, tasks, chunksize=4)
    found = pool.map(judged, tasks, chunksize=4)
    stable = same = survived = slow = 0
    for (problem, *_), runs, (label, reason, _) in zip(tasks, expected, found, strict=True):
        if len(set(runs)) > 1:
            print(f"  not stable: {problem.name}: {runs}")
            continue
        stable, survived, slow = stable + 1, survived + runs[0], slow + reason.startswith("time_limit")
        if (label == "correct") is runs[0] and label != "undecided":
            same += 1
        else:
            print(f"  not the same: {problem.name}: plain {runs[0]}, ours {label} ({reason})")
    print(f"mutants: {len(tasks)} of {len(problems)} programs have one, {stable} stable ({survived} pass their tests, "
          f"{slow} meet the time limit), {same} with the same verdict")
    return stable, same


def main() -> None:
    problems = load()
    with multiprocessing.get_context("fork").Pool(2) as pool:
        passed, seconds = canonical(pool, problems)
        human = sum(good for name, good in passed.items() if name.startswith("HumanEval"))
        mbpp = sum(good for name, good in passed.items() if name.startswith("MBPP"))
        print(f"canonical solutions that pass: HumanEval {human}, MBPP {mbpp}")
        stable, same = compare(pool, problems, seconds)
        sample = [problem for number, problem in enumerate(problems) if number % 4 == 0 and passed[problem.name]]
        speedup = compare_speed(pool, sample)
    print(json.dumps({"humaneval_pass": human, "mbpp_pass": mbpp, "mutants": stable, "mutants_same_verdict": same,
                      "speedup": round(speedup, 2)}))


if __name__ == "__main__":
    os.environ.setdefault("PYTHONHASHSEED", "0")
    main()
