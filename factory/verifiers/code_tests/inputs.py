"""`tests.inputs`: inputs for tests, from generator programs that a model wrote.

The official tests of programming contests are not public. DeepSeek had a model write Python programs that print test
inputs (R1 paper, supplement B.3.2 with Listing 2): several programs for a problem, each in a code block of its own,
each printing exactly one input: random ones of equal and of mixed length, one huge case, one character repeated, two
that alternate; diverse and adversarial, and large enough that a slow solution runs out of time. This op runs them.

Every complete code block of a response (after its thinking) that is tagged as Python, or not tagged at all, is one
generator; a response that is nothing but a program is one too. Each runs in a sandbox of its own, `runs` times, with
`random` seeded by the step's seed and the number of the run; only the standard library is there. What a run prints is
an input. Whether it is a *valid* input nobody knows yet: `tests.filter` asks correct programs.

A generator that asks the clock or the system for randomness gives other inputs each time; what is stored stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
from pydantic import Field

from factory.engine.errors import DataError
from factory.engine.op import Kind, OpContext, Params, op
from factory.engine.text import split_response
from factory.verifiers.code import unprotected
from factory.verifiers.code.extract import blocks, take_code
from factory.verifiers.sandbox import Limits, Outcome, Program, SandboxFailed, get_room, is_isolated, run_program

_MB = 1 << 20
_TAGS = frozenset({"", "python", "python3", "py", "py3"})
_SEEDED = "import random\nrandom.seed({seed!r})\ndel random\nexec(compile({source!r}, 'generator.py', 'exec'))\n"

DROPPED = pl.List(pl.Struct({"generator": pl.Int32(), "run": pl.Int32(), "reason_code": pl.String(),
                             "reason": pl.String()}))
_OUT: dict[str, pl.DataType] = {
    "inputs": pl.List(pl.String()), "inputs_from": pl.List(pl.Int32()), "inputs_dropped": DROPPED}


class Busy(Exception):
    """The machine was too busy, or the sandbox broke: nothing is known of the program."""


class InputsParams(Params):
    """`generators` names the column of the responses that hold the programs: a text, or a list of texts. `runs` is how
    often each program runs; `max_bytes` the largest input; `at_most` the most inputs of a row. Limits are for one run
    (`time_limit` in seconds of the program's own)."""

    generators: str = "generators"
    runs: int = Field(1, ge=1, le=1000)
    at_most: int | None = Field(None, ge=1)
    max_bytes: int = Field(4 * _MB, ge=1, le=256 * _MB)
    time_limit: float = Field(10.0, gt=0, le=600)
    memory_mb: int = Field(512, ge=64, le=65536)

    def limits(self) -> Limits:
        """As the sandbox takes them; one byte more than an input may have shows that it has too many."""
        return Limits(seconds=self.time_limit, total=self.time_limit, memory=self.memory_mb * _MB,
                      output=self.max_bytes + 1)


@dataclass(frozen=True, slots=True)
class Dropped:
    """A run that gave no input, and why."""

    generator: int
    run: int
    reason_code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Made:
    """Inputs in the order of generators and runs, the generator of each, and the runs that gave none."""

    inputs: tuple[str, ...]
    origins: tuple[int, ...]
    dropped: tuple[Dropped, ...]


def take_generators(responses: Sequence[str | None]) -> list[str]:
    """The generator programs in the responses, in order (see the module docstring)."""
    found: list[str] = []
    for response in responses:
        answer = split_response(response or "").answer or ""
        if fenced := blocks(answer):
            found += [block.text for block in fenced if block.tag in _TAGS and block.text.strip()]
        elif (whole := take_code(answer)) is not None:
            found.append(whole.text)
    return found


def make_inputs(generators: Sequence[str], *, runs: int = 1, seed: int = 0, at_most: int | None = None,
                max_bytes: int = 4 * _MB, limits: Limits | None = None) -> Made:
    """Run generator programs and take what they print.

    Reason codes of runs that gave no input: `runtime_error`, `time_limit`, `memory_limit`, `too_large`, `empty`,
    `not_text` (no UTF-8), `duplicate`, `over_limit` (there are `at_most` inputs already).

    Raises:
        Busy: the machine could not give a program its time, or the sandbox broke.
        SandboxMissing: there is no sandbox here.
    """
    inputs: dict[str, int] = {}
    dropped: list[Dropped] = []
    for number, source in enumerate(generators):
        for run in range(runs):
            if at_most is not None and len(inputs) >= at_most:
                dropped.append(Dropped(number, run, "over_limit", f"there are {at_most} inputs already"))
                continue
            program = Program(_SEEDED.format(seed=f"{seed}/{run}", source=source).encode("utf-8", "surrogatepass"))
            code, text = _taken(run_once(program, b"", limits or Limits(output=max_bytes + 1)), max_bytes)
            if not code and text in inputs:
                code, text = "duplicate", f"generator {inputs[text]} has printed the same"
            if code:
                dropped.append(Dropped(number, run, code, text))
            else:
                inputs[text] = number
    return Made(tuple(inputs), tuple(inputs.values()), tuple(dropped))


def run_once(program: Program, stdin: bytes, limits: Limits) -> Outcome:
    """`run_program`, where a machine that could not run it is an error.

    Raises:
        Busy, SandboxMissing
    """
    try:
        outcome = run_program(program, stdin, limits)
    except SandboxFailed as error:
        raise Busy(f"sandbox_failed: {error}") from error
    if outcome.status == "starved":
        raise Busy("timeout: the machine was too busy to run the programs in time")
    return outcome


def last_words(outcome: Outcome) -> str:
    """The last line of what a program said as it failed."""
    lines = outcome.stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1][:240] if lines else f"it ended with status {outcome.exit}"


def _taken(outcome: Outcome, max_bytes: int) -> tuple[str, str]:
    """("", the input), or (reason code, reason)."""
    if outcome.status == "output_limit" or len(outcome.stdout) > max_bytes:
        return "too_large", f"it printed more than {max_bytes} bytes"
    if outcome.status == "runtime_error":
        return outcome.status, last_words(outcome)
    if outcome.status != "done":
        return outcome.status, f"it met its {outcome.status.replace('_', ' ')}"
    try:
        text = outcome.stdout.decode("utf-8")
    except UnicodeDecodeError as error:
        return "not_text", f"what it printed is no UTF-8 ({error.reason} at byte {error.start})"
    return ("", text) if text.strip() else ("empty", "it printed nothing")


@op("tests.inputs", version=1, kind=Kind.MAP, params=InputsParams, columns=lambda params: (params.generators,),
    out=_OUT, identity=unprotected, code=("factory.verifiers.code.extract", "factory.verifiers.sandbox.programs"))
def tests_inputs(batch: pl.DataFrame, params: InputsParams, ctx: OpContext) -> pl.DataFrame:
    """Run model-written generator programs: what each prints is an input of a test.

    Adds `inputs` (texts, each once), `inputs_from` (the number of the generator of each, from 0) and `inputs_dropped`
    (generator, run, reason_code, reason of every run that gave none; `make_inputs` lists the codes). A row without a
    program is rejected as `no_generator`, one whose programs give nothing as `no_inputs`; it fails with `timeout` or
    `sandbox_failed` where the machine is to blame.

    Raises:
        DataError: the column holds neither text nor lists of texts.
        SandboxMissing: there is no bubblewrap here.
    """
    get_room()
    if not is_isolated():
        ctx.count("unsandboxed", batch.height)
    rows = []
    for given in texts_of(batch, params.generators):
        generators = take_generators(given)
        rejected = failed = None
        made = Made((), (), ())
        try:
            made = make_inputs(generators, runs=params.runs, seed=ctx.seed, at_most=params.at_most,
                               max_bytes=params.max_bytes, limits=params.limits())
        except Busy as busy:
            failed = str(busy)
        if not generators:
            rejected = "no_generator: the responses hold no complete Python code block"
        elif not made.inputs and failed is None:
            rejected = f"no_inputs: {len(generators)} generators printed no input; first: {made.dropped[0].reason}"
        ctx.count("inputs", len(made.inputs))
        ctx.count("inputs_dropped", len(made.dropped))
        rows.append((made.inputs, made.origins, [{name: getattr(each, name) for name in Dropped.__slots__}
                                                 for each in made.dropped], rejected, failed))
    return pl.DataFrame(rows, schema={**_OUT, "_rejected": pl.String(), "_failed": pl.String()}, orient="row")


def texts_of(batch: pl.DataFrame, column: str) -> list[list[str | None]]:
    """A column of texts or of lists of texts, as lists; a column of another type is a `DataError`."""
    dtype = batch.schema[column]
    if dtype == pl.List(pl.String()):
        return [list(value) if value is not None else [] for value in batch[column].to_list()]
    if dtype in (pl.String(), pl.Null()):
        return [[value] if value is not None else [] for value in batch[column].to_list()]
    raise DataError(f"column {column!r} has type {dtype}; expected text or lists of texts: name such a column")
