"""The verbs of the `factory` command about verifiers: is all well here, judge again, compare verdicts.

Thin as the rest of the command: parse, call, print. `factory.cli` registers them.
"""

from __future__ import annotations

import os
from typing import Annotated

import typer

from factory.cli_warehouse import DEFAULT, AsJson, Root

verdicts = typer.Typer(name="verdicts", no_args_is_help=True, help="Compare what verifiers said.",
                       context_settings={"help_option_names": ["-h", "--help"]}, rich_markup_mode=None)

Scores = Annotated[str, typer.Argument(help="What a verifier wrote: name, name@3 or name@tag.")]


def _give_up_sandbox(asked: bool) -> None:
    if asked:
        os.environ["FACTORY_UNSAFE_NO_SANDBOX"] = "1"  # workers inherit it, and count their rows as unsandboxed


Unsafe = Annotated[bool, typer.Option("--unsafe-no-sandbox", callback=_give_up_sandbox, expose_value=True,
                                      help="Let verify.code run programs as you, unprotected; the manifest says so.")]


def doctor(warehouse: Root = DEFAULT, json: AsJson = False) -> None:
    """Show what works on this machine: extras, sandbox, devices, disk, and whether every verifier accepts its own golds
    and refuses mutated ones. Exit code 1 when something that is installed is broken.

    Example: factory doctor
    """
    from factory import terminal_verify
    from factory.api_verify import doctor as examine

    found = examine(warehouse=warehouse)
    terminal_verify.show_doctor(found, json)
    raise typer.Exit(1 if found.broken else 0)


def reverify(prefix: Annotated[str, typer.Argument(help="Only datasets whose names begin so.")] = "",
             warehouse: Root = DEFAULT,
             op: Annotated[str | None, typer.Option(help="Only this verifier, such as verify.math.")] = None,
             dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be judged again.")] = False,
             plugin: Annotated[list[str] | None, typer.Option(help="A module that defines verifiers (repeatable).")]
             = None,
             executor: Annotated[str, typer.Option(help="local (worker processes) or inline.")] = "local",
             workers: Annotated[int | None, typer.Option(min=1, help="Worker processes (default: the cores).")] = None,
             max_failed: Annotated[float | None, typer.Option(
                 min=0, max=1, help="Share of rows that may fail (default: 0.05).")] = None,
             unsafe: Unsafe = False, json: AsJson = False) -> None:
    """Judge again what older versions of the verifiers have judged; nothing is generated.

    Example: factory reverify pico --op verify.math
    """
    from factory import terminal_verify
    from factory.api_verify import reverify as judge_again
    from factory.engine.progress import make_progress

    looked: list[int] = []
    told, reports = judge_again(prefix, op=op, warehouse=warehouse, dry_run=dry_run, plugins=plugin or (),
                                executor=executor, workers=workers, progress=lambda steps: make_progress(steps, json),
                                max_failed=max_failed, looked=looked.append)
    terminal_verify.show_reverified(told, reports, sum(looked), dry_run, json)
    raise typer.Exit(max([report.exit_code for report in reports], default=0))


@verdicts.command("diff")
def verdicts_diff(old: Scores, new: Scores, warehouse: Root = DEFAULT,
                  limit: Annotated[int, typer.Option("--limit", "-n", min=0, help="How many rows to print.")] = 10,
                  json: AsJson = False) -> None:
    """Compare two versions of verdicts, or two verifiers over the same rows: what changed, and why.

    Example: factory verdicts diff pico/correct@1 pico/correct@2
    """
    from factory import terminal_verify
    from factory.api_verify import verdicts_diff as compare

    terminal_verify.show_verdict_diff(compare(old, new, warehouse=warehouse), limit, json)


VERBS = (doctor, reverify)
