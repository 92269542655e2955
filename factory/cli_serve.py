"""The verb `serve`: keep a server for a model until Ctrl-C, for steps of this machine and any other OpenAI client."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from factory.cli_warehouse import DEFAULT, Root

if TYPE_CHECKING:
    from factory.models.runtime import ModelRuntime
    from factory.models.serve import Managed
    from factory.models.spec import ResolvedModel

_LOOK_SECONDS = 1.0


def serve(model: Annotated[str, typer.Argument(help="A model: a name in the recipe's `models`, a model folder or .gguf "
                                               "file, or a checkpoint of the warehouse.")],
          recipe: Annotated[Path | None, typer.Option("--recipe", help="The recipe that declares the model.")] = None,
          warehouse: Root = DEFAULT,
          port: Annotated[int, typer.Option(min=0, max=65535, help="The port (default: a free one).")] = 0,
          set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A runtime field of the "
                                                         "model: context=4096, options.seed=1.")] = None) -> None:
    """Serve a model of this machine with vLLM, on 127.0.0.1, until Ctrl-C.

    Example: factory serve nano/final --set context=4096
    """
    from factory import terminal
    from factory.models.serve import Managed, announced, noted

    found = _model(model, recipe, warehouse)
    runtime = _runtime(found, terminal.parse_pairs(set_, "--set"))
    noted(found)  # what is wrong with the folder of notes is told before the model is loaded
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        print(f"starting vllm serve for {found.name} (half a minute to many)", flush=True)
        with contextlib.closing(Managed(found, runtime, port)) as served, announced(found, served):
            _tell(served)
            _keep(served)
    except KeyboardInterrupt:
        print("stopped")


def _model(name: str, recipe: Path | None, warehouse: str) -> ResolvedModel:
    from factory.engine.errors import UsageError
    from factory.engine.facts import checkpoint_finder
    from factory.engine.recipe import load_recipe
    from factory.models.spec import ModelSpec, resolve
    from warehouse import NotInWarehouse, Warehouse

    try:
        finder: Any = checkpoint_finder(Warehouse(warehouse))
    except NotInWarehouse:
        finder = checkpoint_finder(None)
    if recipe is not None:
        loaded = load_recipe(recipe)
        if name in loaded.recipe.models:
            spec = ModelSpec.model_validate(loaded.recipe.models[name])
            return resolve(spec, loaded.base_dir, finder)
        if name in loaded.recipe.steps:
            name = f"{loaded.recipe.recipe}/{name}"
        elif not Path(name).exists():
            raise UsageError(f"serve {name}: {recipe} declares no such model; it has "
                             f"{', '.join(loaded.recipe.models) or 'none'}")
    if Path(name).expanduser().exists():
        return resolve(ModelSpec(path=name), Path.cwd(), finder)
    return resolve(ModelSpec(checkpoint=name), Path.cwd(), finder)


def _runtime(model: ResolvedModel, fields: Mapping[str, Any]) -> ModelRuntime:
    from pydantic import ValidationError

    from factory.engine.errors import UsageError
    from factory.models.runtime import ModelRuntime

    nested: dict[str, Any] = {}
    for key, value in fields.items():
        first, dot, rest = key.partition(".")
        if dot:
            nested.setdefault(first, {})[rest] = value
        else:
            nested[first] = value
    try:
        return ModelRuntime(**nested).over(model.spec.runtime)
    except ValidationError as error:
        first_error = error.errors()[0]
        at = ".".join(str(part) for part in first_error["loc"])
        raise UsageError(f"--set {at}: {first_error['msg']}. See `runtime` of models in docs/models.md") from None


def _tell(served: Managed) -> None:
    print(f"""serving {served.name} at {served.url}
in a recipe on this machine:  runtime: {{model: {{endpoint: managed}}}}
anywhere else:                runtime: {{model: {{endpoint: "{served.url}", served_name: "{served.name}"}}}}
Ctrl-C stops it""", flush=True)


def _keep(served: Managed) -> None:
    """Stay until Ctrl-C; start the server again once if it dies."""
    while True:
        time.sleep(_LOOK_SECONDS)
        if not served.alive:
            print("the server died; starting it again", flush=True)
            served.revive()
            print(f"serving again at {served.url}", flush=True)
