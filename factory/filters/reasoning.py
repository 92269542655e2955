"""filter.reasoning: the readable-format filter of R1's rejection sampling as one step of a recipe.

A composite: at plan time it becomes ordinary steps, each cached and reported by itself: `NAME.language`, `NAME.length`,
`NAME.paragraphs`, `NAME.code_blocks` and `NAME.repetition`. R1 dropped chains of thought with mixed languages, long
paragraphs and code blocks (R1 paper, section 2.3.3). `NAME.structure` is added where its params are given (`{}` will
do). A `where` that names the composite stands for all of them, in this order.
"""

from __future__ import annotations

from typing import Any

from factory.engine.op import Params, composite
from factory.filters.code_blocks import CodeBlocksParams
from factory.filters.language import LanguageParams
from factory.filters.length import LengthParams
from factory.filters.paragraphs import ParagraphsParams
from factory.filters.repetition import RepetitionParams
from factory.filters.structure import StructureParams


class ReasoningParams(Params):
    """`text` names the measured column for all; the others are the params of the single filters."""

    text: str = "response"
    language: LanguageParams = LanguageParams()
    length: LengthParams = LengthParams()
    paragraphs: ParagraphsParams = ParagraphsParams()
    code_blocks: CodeBlocksParams = CodeBlocksParams()
    repetition: RepetitionParams = RepetitionParams()
    structure: StructureParams | None = None


@composite("filter.reasoning", params=ReasoningParams)
def reasoning(step_name: str, decl: dict[str, Any], params: ReasoningParams,
              ) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Language, length, paragraphs, code blocks and repetition of reasoning responses; structure where it is named.

    Everything the declaration says beside `op`, `params` and `name` (its input, runtime settings) holds for each of
    the steps. Returns the steps and their names.
    """
    shared = {key: value for key, value in decl.items() if key not in ("op", "params", "name")}
    steps: dict[str, dict[str, Any]] = {}
    for part in ("language", "length", "paragraphs", "code_blocks", "repetition", "structure"):
        given = getattr(params, part)
        if given is not None:
            own = given.model_dump(exclude_unset=True)
            steps[f"{step_name}.{part}"] = {**shared, "op": f"filter.{part}", "params": {"text": params.text, **own}}
    return steps, list(steps)
