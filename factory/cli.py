"""The `factory` command: parse, call, print. Every verb is also a function of `factory.api`.

Reading commands take `--json`. Errors are one block on standard error; exit codes: 0 done, 1 failed, 2 wrong usage,
3 finished but a gate or quota was not met, 130 interrupted.
"""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from factory import cli_serve, cli_verify, cli_warehouse
from factory.cli_verify import Unsafe
from factory.cli_warehouse import DEFAULT, AsJson, Root

app = typer.Typer(name="factory", no_args_is_help=True, add_completion=True, pretty_exceptions_enable=False,
                  rich_markup_mode=None, context_settings={"help_option_names": ["-h", "--help"]})

RecipePath = Annotated[Path, typer.Argument(help="The recipe, a YAML file.")]
Sets = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE",
                                                help="Override a field: steps.a.params.n=8 (repeatable).")]
Vars = Annotated[list[str] | None, typer.Option("--vars", metavar="KEY=VALUE",
                                                help="Give a variable of the recipe: n=8 (repeatable).")]
Limit = Annotated[int | None, typer.Option(min=1, help="Truncate every source to this many records.")]
Until = Annotated[str | None, typer.Option(help="Only this step and what it needs.")]


def _version(asked: bool) -> None:
    if asked:
        from factory import __version__

        print(f"factory {__version__}")
        raise typer.Exit


@app.callback()
def start(version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True,
                                                help="Print the version.")] = False) -> None:
    """Recipes that make reasoning data, in a warehouse that knows where every row came from."""


@app.command()
def run(recipe: RecipePath, warehouse: Root = DEFAULT, vars: Vars = None, set_: Sets = None, limit: Limit = None,
        until: Until = None,
        executor: Annotated[str, typer.Option(help="local (worker processes) or inline.")] = "local",
        workers: Annotated[int | None, typer.Option(min=1, help="Worker processes (default: the cores).")] = None,
        retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try failed rows again.")] = False,
        trace: Annotated[bool, typer.Option("--trace", help="At the end, trace one row to its source.")] = False,
        quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the summary.")] = False,
        unsafe: Unsafe = False, json: AsJson = False) -> None:
    """Run a recipe: make what is missing, reuse what is there.

    Example: factory run recipes/pico.yaml
    """
    from factory import api, terminal
    from factory.engine.progress import make_progress
    from factory.engine.told import parts_of
    from factory.lines import complain

    planned = api.plan(recipe, warehouse=warehouse, vars=terminal.parse_pairs(vars, "--vars"),
                       overrides=terminal.parse_pairs(set_, "--set"), limit=limit, until=until)
    for status in planned.statuses.values():
        for warning in status.warnings:
            complain(warning, "warning")
    steps = planned.plan.steps
    progress = make_progress(list(steps), quiet or json, parts_of({name: step.kind for name, step in steps.items()}))
    try:
        report = api.execute(planned, warehouse=warehouse, executor=executor, workers=workers,
                             retry_failed=retry_failed, progress=progress)
    except KeyboardInterrupt:  # the second Ctrl-C
        _fail("stopped at once; finished answers are kept, the same command goes on from here", 130)
    terminal.show_run(report, warehouse, json)
    if trace and not json:
        terminal.show_example(report, warehouse)
    raise typer.Exit(report.exit_code)


@app.command()
def plan(recipe: RecipePath, warehouse: Root = DEFAULT, vars: Vars = None, set_: Sets = None, limit: Limit = None,
         until: Until = None,
         explain: Annotated[str | None, typer.Option(help="Why this step would run: each field, then and now.")] = None,
         json: AsJson = False) -> None:
    """Show what a run would do; creates nothing.

    Example: factory plan recipes/pico.yaml --explain samples
    """
    from factory import api, terminal

    planned = api.plan(recipe, warehouse=warehouse, vars=terminal.parse_pairs(vars, "--vars"),
                       overrides=terminal.parse_pairs(set_, "--set"), limit=limit, until=until)
    terminal.show_plan(planned, explain, json)


@app.command()
def preview(recipe: RecipePath, step: Annotated[str, typer.Argument(help="A step that asks a model.")],
            rows: Annotated[int, typer.Option("-n", "--rows", min=1, help="How many requests.")] = 3,
            warehouse: Root = DEFAULT, vars: Vars = None, set_: Sets = None,
            ask: Annotated[bool, typer.Option(help="Also ask the model.")] = True, json: AsJson = False) -> None:
    """Show what a step asks a model, the answers, and how they would be judged; writes nothing.

    Example: factory preview recipes/pico.yaml samples
    """
    from factory import api, terminal
    from factory.terminal_preview import show_preview

    shown = api.preview(recipe, step, rows=rows, warehouse=warehouse, vars=terminal.parse_pairs(vars, "--vars"),
                        overrides=terminal.parse_pairs(set_, "--set"), ask=ask)
    show_preview(shown, json)


@app.command()
def apply(op: Annotated[str, typer.Argument(help="The op, such as verify.math.")],
          source: Annotated[Path, typer.Argument(help="A .jsonl, .parquet or .csv file.")],
          target: Annotated[Path, typer.Argument(help="The file to write.")], set_: Sets = None,
          unsafe: Unsafe = False, json: AsJson = False) -> None:
    """Run a row op on a plain file, without recipe or warehouse.

    Example: factory apply verify.math in.jsonl out.jsonl
    """
    from factory import api, terminal
    from factory.terminal_verify import telling_rows

    params = terminal.parse_pairs(set_, "--set")
    with telling_rows(json) as tell:
        applied = api.apply(op, source, target, params=params, tell=tell)
    terminal.show_applied(applied, target, json)


@app.command()
def publish(ref: Annotated[str, typer.Argument(help="A dataset: name, name@3 or name@tag.")],
            to: Annotated[str, typer.Option("--to", help="dir:PATH.")], warehouse: Root = DEFAULT,
            config: Annotated[str, typer.Option(help="The Hub configuration's name.")] = "default",
            json: AsJson = False) -> None:
    """Write a dataset version as a folder for datasets.load_dataset.

    Example: factory publish pico/reasoning --to dir:out
    """
    from factory import terminal
    from factory.publish.adhoc import publish_version
    from warehouse import Warehouse

    terminal.show_receipt(publish_version(Warehouse(warehouse), ref, to, config), json)


@app.command()
def schema() -> None:
    """Print the JSON Schema of recipes, for editors.

    Example: factory schema > recipe.schema.json
    """
    import json

    from factory.engine.recipe import recipe_schema

    print(json.dumps(recipe_schema(), indent=2))


for verb in (cli_serve.serve, *cli_warehouse.VERBS, *cli_verify.VERBS):
    app.command(verb.__name__.replace("_", "-"))(verb)
app.add_typer(cli_verify.verdicts)


def main(argv: list[str] | None = None) -> None:
    """Entry point of the `factory` command."""
    os.environ.setdefault("TQDM_DISABLE", "1")  # bars of libraries would break our lines; workers inherit it
    for stream in (sys.stdout, sys.stderr):  # data may hold what an old locale cannot print
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        app(args=argv, prog_name="factory")
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except Exception as error:
        _explain(error)


def _explain(error: Exception) -> NoReturn:
    """One block for what a user can mend; anything else is a bug and keeps its traceback."""
    from factory.engine.errors import FactoryError
    from warehouse.errors import BadQuery, NotInWarehouse, WarehouseError

    if isinstance(error, FactoryError):
        _fail(str(error), error.exit_code)
    if isinstance(error, WarehouseError):
        _fail(str(error), 2 if isinstance(error, NotInWarehouse | BadQuery) else 1)
    if isinstance(error, OSError):
        place = f"{error.filename}: " if error.filename else ""
        _fail(f"{place}{error.strerror or error}", 1)
    raise error


def _fail(message: str, code: int) -> NoReturn:
    from factory.lines import complain

    complain(message)
    sys.exit(code)


if __name__ == "__main__":
    main()
