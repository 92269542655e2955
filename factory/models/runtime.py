"""How a model runs: everything about answering that does not change what is asked. None of it is identity, so changing
any of it redoes nothing.

A recipe writes it in two places: `models.<name>.runtime` for every step that asks the model, and `steps.<name>.runtime.
model` for one step, whose fields win.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

_Url = Annotated[str, Field(pattern=r"^https?://")]


class Price(BaseModel):
    """What a million tokens cost, in `currency`. Prompt tokens that the server had cached cost `cached_input`, where it
    is given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input: float = Field(ge=0, allow_inf_nan=False)
    output: float = Field(ge=0, allow_inf_nan=False)
    cached_input: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    currency: str = "USD"

    def of(self, tokens_in: int, tokens_out: int, cached_in: int = 0) -> float:
        """What so many tokens cost."""
        cached = self.input if self.cached_input is None else self.cached_input
        return ((tokens_in - cached_in) * self.input + cached_in * cached + tokens_out * self.output) / 1e6


class ModelRuntime(BaseModel):
    """How a model runs.

    Everywhere: `backend` (auto: replay for replay models, openai where an `endpoint` is named, else vllm on a machine
    with a GPU that has it, else transformers), `batch` (answers written at once; each backend has its default),
    `silence` (seconds without a sign of life after which a backend counts as hung), `floor` (tokens/s that it must
    reach over such a time), `price`.

    Embedded (transformers, vllm): `device`, `dtype` (auto is float32 on a CPU and bfloat16 on a GPU), `threads` (0 is
    every core this process may use), `context` (tokens of prompt and answer together, where less than the model sees),
    `tensor_parallel` and `data_parallel` (vllm, devices per engine and engines).

    `endpoint`: one or several base URLs of servers that speak the OpenAI protocol (`http://host:8000/v1`), or
    `managed`, a `vllm serve` on this machine. `served_name` is the model's name there (default: the declared one);
    `key` the name of the environment variable that holds the API key; `concurrency` the most requests in flight for
    each URL; `deadline` seconds for one attempt, `attempts` how many before a row fails; `stream` reads answers as they
    are written.

    `log` (replay) gets a line with the answer key of each request asked; `delay` (replay) is seconds per answer.
    `options` go to the engine as they are (vllm: engine arguments; openai: fields of every request's body).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    backend: str = "auto"
    batch: int | None = Field(default=None, ge=1)
    device: str = "auto"
    dtype: Literal["auto", "float32", "bfloat16", "float16", "float64"] = "auto"
    threads: int = Field(default=0, ge=0)
    context: int | None = Field(default=None, ge=2)
    tensor_parallel: int = Field(default=1, ge=1)
    data_parallel: int = Field(default=1, ge=1)
    endpoint: Literal["managed"] | _Url | Annotated[tuple[_Url, ...], Field(min_length=1)] | None = None
    served_name: str | None = None
    key: str = Field(default="OPENAI_API_KEY", repr=False)
    concurrency: int = Field(default=1024, ge=1)
    deadline: float = Field(default=1800.0, gt=0, allow_inf_nan=False)
    attempts: int = Field(default=5, ge=1)
    stream: bool = False
    silence: float = Field(default=600.0, gt=0, allow_inf_nan=False)
    floor: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    price: Price | None = None
    log: str | None = None
    delay: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    options: dict[str, Any] = Field(default_factory=dict)

    @field_validator("endpoint", mode="before")
    @classmethod
    def _urls(cls, value: Any) -> Any:
        listed = value if isinstance(value, list | tuple) else [value]
        good = [one is None or (isinstance(one, str) and one.startswith(("http://", "https://"))) for one in listed]
        if value != "managed" and not (listed and all(good)):
            raise ValueError("expected a base URL (http://host:8000/v1), a list of them, or managed")
        return value

    @field_validator("key", mode="before")
    @classmethod
    def _name(cls, value: Any) -> Any:
        if not isinstance(value, str) or not re.fullmatch(r"[A-Z_][A-Z0-9_]*", value):
            raise ValueError("expected the NAME of an environment variable that holds the key (OPENAI_API_KEY), in "
                             "capitals; what was given is not shown, in case it is a key")
        return value

    def over(self, other: ModelRuntime | None) -> ModelRuntime:
        """These settings where they were given, the others' elsewhere."""
        if other is None:
            return self
        given = {name: getattr(self, name) for name in self.model_fields_set}
        return other.model_copy(update=given)
