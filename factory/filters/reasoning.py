"""filter.reasoning: the readable-format filter of R1's rejection sampling as one step of a recipe.

A composite: at plan time it becomes four ordinary steps, `NAME.language`, `NAME.length`, `NAME.code_blocks` and
`NAME.repetition`, each cached and reported by itself. A `where` that names the composite stands for the four, in this
order.
"""

from __future__ import annotations

from typing import Any

from factory.engine.op import Params, composite
from factory.filters.code_blocks import CodeBlocksParams
from factory.filters.language import LanguageParams
from factory.filters.length import LengthParams
from factory.filters.repetition import RepetitionParams


class ReasoningParams(Params):
    """`text` names the measured column for all four; the others are the params of the single filters."""

    text: str = "response"
    language: LanguageParams = LanguageParams()
    length: LengthParams = LengthParams()
    code_blocks: CodeBlocksParams = CodeBlocksParams()
    repetition: RepetitionParams = RepetitionParams()


@composite("filter.reasoning", params=ReasoningParams)
def reasoning(step_name: str, decl: dict[str, Any], params: ReasoningParams,
              ) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Language, length, code blocks and repetition of reasoning responses.

    Everything the declaration says beside `op`, `params` and `name` (its input, runtime settings) holds for each of
    the four steps. Returns the steps and their names.
    """
    shared = {key: value for key, value in decl.items() if key not in ("op", "params", "name")}
    steps: dict[str, dict[str, Any]] = {}
    for part in ("language", "length", "code_blocks", "repetition"):
        own = getattr(params, part).model_dump(exclude_unset=True)
        steps[f"{step_name}.{part}"] = {**shared, "op": f"filter.{part}", "params": {"text": params.text, **own}}
    return steps, list(steps)
