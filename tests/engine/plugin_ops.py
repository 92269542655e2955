"""Ops of every kind for the tests, registered as a plugin distribution would: by decorator, named in `plugins:`.

`test.fickle` and its kin misbehave as the environment variable TEST_FAULT says, so a test can break an op and mend it
without touching the recipe. TEST_LOG names a folder in which `test.fickle` notes the rows it was given.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from factory.engine.op import (
    GateResult,
    Job,
    Kind,
    NoParams,
    OpContext,
    Params,
    PlanContext,
    Record,
    Selection,
    SourcePlan,
    TrainResult,
    composite,
    op,
)
from factory.models.base import Completion


class RowsParams(Params):
    """`rows` are the records, `splits` the shards they are read in (no identity)."""

    rows: list[dict[str, Any]]
    splits: int = 1


@op("test.rows", version=1, kind=Kind.SOURCE, params=RowsParams, provenance=("splits",))
class Rows:
    """Rows written in the recipe."""

    def plan(self, params: RowsParams, ctx: PlanContext) -> SourcePlan:
        size = -(-len(params.rows) // params.splits)
        splits = tuple({"start": at, "stop": at + size} for at in range(0, len(params.rows), size))
        return SourcePlan({"rows": params.rows}, splits, dict(pl.DataFrame(params.rows).schema))

    def read(self, split: dict[str, Any], params: RowsParams) -> Iterator[Record]:
        for line, row in enumerate(params.rows[split["start"]:split["stop"]], start=split["start"] + 1):
            yield Record(dict.fromkeys(params.rows[0]) | row, "recipe", line)


@op("test.shout", version=1, kind=Kind.MAP, columns=["text"], out={"loud": pl.String()})
def shout(batch: pl.DataFrame, params: NoParams, ctx: OpContext) -> pl.DataFrame:
    """Upper case; refuses texts with "no" and fails on those with "boom"."""
    text = pl.col("text")
    ctx.count("shouted", batch.height)
    return batch.select(
        text.str.to_uppercase().alias("loud"),
        pl.when(text.str.contains("no")).then(pl.lit("refused: it says no")).alias("_rejected"),
        pl.when(text.str.contains("boom")).then(pl.lit("explosion: it went off")).alias("_failed"))


@op("test.words", version=1, kind=Kind.EXPAND, columns=["text"], out={"word": pl.String()})
def words(batch: pl.DataFrame, params: NoParams, ctx: OpContext) -> pl.DataFrame:
    """One row per word; a text without words is rejected."""
    found = []
    for parent, text in enumerate(batch["text"].to_list()):
        parts = (text or "").split()
        found += [(parent, slot, word, None) for slot, word in enumerate(parts)]
        found += [] if parts else [(parent, 0, None, "wordless: nothing to split")]
    schema = {"_parent": pl.UInt32, "_slot": pl.Int32, "word": pl.String, "_rejected": pl.String}
    return pl.DataFrame(found, schema=schema, orient="row")


class LettersParams(Params):
    """`unknown`: the word whose size nobody knows."""

    unknown: str = ""


@op("test.letters", version=1, kind=Kind.EXPAND, params=LettersParams, columns=["text"],
    out={"letter": pl.String(), "size": pl.Int64()})
def letters(batch: pl.DataFrame, params: LettersParams, ctx: OpContext) -> pl.DataFrame:
    """The words of a text; `size` is a word's place, counted from 1."""
    found = [(parent, slot, word, None if word == params.unknown else slot + 1)
             for parent, text in enumerate(batch["text"].to_list()) for slot, word in enumerate(text.split())]
    schema = {"_parent": pl.UInt32, "_slot": pl.Int32, "letter": pl.String, "size": pl.Int64}
    return pl.DataFrame(found, schema=schema, orient="row")


@op("test.loose", version=1, kind=Kind.MAP, columns=["text"])
def loose(batch: pl.DataFrame, params: NoParams, ctx: OpContext) -> pl.DataFrame:
    """Declares no columns, and writes `note`, whose type only batches with a space in a text reveal."""
    notes = ["spaced" if " " in text else None for text in batch["text"].to_list()]
    return pl.DataFrame({"note": notes})


class GroupParams(Params):
    """`group_by` names the columns whose equal values make a group."""

    group_by: tuple[str, ...] = ("topic",)


@op("test.join", version=1, kind=Kind.MERGE, params=GroupParams, columns=["text"],
    out={"joined": pl.String(), "parts": pl.Int64()})
def join(group: pl.DataFrame, params: GroupParams, ctx: OpContext) -> pl.DataFrame:
    """The texts of a group in alphabetical order."""
    return pl.DataFrame({"joined": " | ".join(sorted(group["text"].to_list())), "parts": group.height})


class SizeParams(Params):
    """`most` characters pass by the default rule; an empty text is undecided."""

    most: int = 8


@op("test.size", version=1, kind=Kind.SCORE, params=SizeParams, columns=["text"],
    out={"length": pl.Int64(), "share": pl.Float64(), "shape": pl.String(), "odd": pl.Boolean()})
def size(batch: pl.DataFrame, params: SizeParams, ctx: OpContext) -> pl.DataFrame:
    """Length, share of vowels (null for empty texts, NaN for "nan"), shape, oddness; fails on "boom"."""
    text, length = pl.col("text"), pl.col("text").str.len_chars().cast(pl.Int64)
    share = pl.when(text == "nan").then(float("nan")).when(length > 0).then(
        text.str.count_matches("[aeiou]") / length)
    return batch.select(
        pl.when(length > 0).then(length <= params.most).alias("passed"),
        pl.when(length > params.most)
        .then(pl.lit("too_long"))
        .when(length == 0)
        .then(pl.lit("empty"))
        .alias("reason_code"),
        pl.lit("measured").alias("reason"),
        length.alias("length"),
        share.alias("share"),
        pl.when(length > params.most).then(pl.lit("long")).otherwise(pl.lit("short")).alias("shape"),
        (length % 2 == 1).alias("odd"),
        pl.when(text.str.contains("boom") & (os.environ.get("TEST_FAULT") != "none"))
        .then(pl.lit("explosion: it went off"))
        .alias("_failed"),
    )


@op("test.marks", version=1, kind=Kind.SCORE, columns=["marks"],
    out={"grade": pl.Int64(), "ratio": pl.Float64(), "word": pl.String(), "flag": pl.Boolean()})
def marks(batch: pl.DataFrame, params: NoParams, ctx: OpContext) -> pl.DataFrame:
    """Measurements as the row's own column `marks` (JSON) has them."""
    found = [json.loads(text) for text in batch["marks"].to_list()]
    schema = {
        "passed": pl.Boolean,
        "reason_code": pl.String,
        "reason": pl.String,
        "grade": pl.Int64,
        "ratio": pl.Float64,
        "word": pl.String,
        "flag": pl.Boolean,
        "_failed": pl.String,
    }
    return pl.DataFrame({name: [one.get(name) for one in found] for name in schema}, schema=schema, strict=False)


class FloorParams(Params):
    """No pair below `floor` is stored."""

    floor: float = 0.5


@op("test.pairs", version=1, kind=Kind.GLOBAL, params=FloorParams, columns=["text", "near"], dedup=True)
class Pairs:
    """Pairs as the rows state them: `near` is "text=jaccard text=jaccard"; rows with equal texts are one node."""

    @staticmethod
    def threshold(params: FloorParams) -> float:
        return 0.8

    def partial(self, batch: pl.DataFrame, params: FloorParams, ctx: OpContext) -> pl.DataFrame:
        return batch.select("row_id", "row_key", "text", "near")

    def merge(
        self, partials: Sequence[pl.DataFrame], params: FloorParams, ctx: OpContext
    ) -> Mapping[str, pl.DataFrame]:
        rows = pl.concat(partials).sort("row_key", "row_id").with_columns(node=pl.col("row_id").first().over("text"))
        node = dict(zip(rows["text"], rows["node"], strict=True))
        pairs = sorted({(*sorted((node[text], node[other.split("=")[0]])), float(other.split("=")[1]))
                        for text, near in rows.select("text", "near").iter_rows() for other in near.split()})
        return {"nodes": rows.select("row_id", "node").sort("row_id"),
                "pairs": pl.DataFrame(pairs, schema={"left": pl.Int64, "right": pl.Int64, "jaccard": pl.Float64},
                                      orient="row")}


@op("test.table", version=1, kind=Kind.GLOBAL, columns=["text"])
class Table:
    """How many rows there are; judges none of them."""

    def partial(self, batch: pl.DataFrame, params: NoParams, ctx: OpContext) -> pl.DataFrame:
        return pl.DataFrame({"rows": [batch.height]})

    def merge(self, partials: Sequence[pl.DataFrame], params: NoParams, ctx: OpContext) -> Mapping[str, pl.DataFrame]:
        return {"rows_seen": pl.concat(partials).sum()}


class RareParams(Params):
    """A text passes when at most `most` rows have it."""

    most: int = 1


@op("test.rare", version=1, kind=Kind.GLOBAL, params=RareParams, columns=["text"], out={"copies": pl.Int64()})
class Rare:
    """How many rows say the same, judged against a limit."""

    def partial(self, batch: pl.DataFrame, params: RareParams, ctx: OpContext) -> pl.DataFrame:
        return batch.group_by("text", maintain_order=True).len()

    def merge(self, partials: Sequence[pl.DataFrame], params: RareParams, ctx: OpContext) -> Mapping[str, pl.DataFrame]:
        every = pl.concat(
            [pl.DataFrame(schema={"text": pl.String, "len": pl.UInt32}), *partials], how="vertical_relaxed"
        )
        return {"counted": every.group_by("text").agg(pl.col("len").sum().cast(pl.Int64).alias("copies")).sort("text")}

    def decide(self, batch: pl.DataFrame, tables: Mapping[str, pl.DataFrame], params: RareParams,
               ctx: OpContext) -> pl.DataFrame:
        joined = batch.join(tables["counted"], on="text", how="left", maintain_order="left")
        passed = joined["copies"] <= params.most
        return joined.select("copies", passed.alias("passed"), pl.lit("common").alias("reason_code"),
                             pl.lit("several rows say it").alias("reason"))


class WeightParams(Params):
    """Every row is chosen `times` times."""

    times: int = 1


@op("test.repeat", version=1, kind=Kind.SELECT, params=WeightParams)
def repeat(rows: pl.DataFrame, params: WeightParams, ctx: OpContext) -> Selection:
    """Choose everything, several times; TEST_FAULT=double chooses the first row twice and leaves the last one out."""
    kept = rows.select("row_id", pl.lit(params.times, pl.Int32).alias("weight"))
    if os.environ.get("TEST_FAULT") == "double":
        kept = pl.concat([kept[:1], kept[:-1]])
    return Selection(kept, pl.DataFrame(schema={"row_id": pl.Int64, "reason_code": pl.String, "reason": pl.String}))


def _misbehave(batch: pl.DataFrame, made: pl.DataFrame) -> pl.DataFrame:
    """What TEST_FAULT asks for, in the shard that holds the text "trigger"."""
    fault = os.environ.get("TEST_FAULT", "none")
    if "TEST_LOG" in os.environ:
        (Path(os.environ["TEST_LOG"]) / uuid.uuid4().hex).write_text(
            "\n".join(batch["text"].to_list()), encoding="utf-8"
        )
    if fault == "none" or "trigger" not in batch["text"].to_list():
        return made
    if fault == "raise":
        raise ValueError("the op met a text it cannot bear")
    if fault == "exit":
        os._exit(9)
    return {"drop": lambda: made[:-1], "double": lambda: pl.concat([made, made[-1:]]), "empty": lambda: made[:0],
            "swap": lambda: made.reverse(), "same": lambda: pl.concat([made[:-1], made[:1]])}[fault]()


@op("test.fickle", version=1, kind=Kind.MAP, columns=["text"], out={"copy": pl.String()})
def fickle(batch: pl.DataFrame, params: NoParams, ctx: OpContext) -> pl.DataFrame:
    """A copy of the text, if nothing is wrong."""
    return _misbehave(batch, batch.select("row_id", pl.col("text").alias("copy")))


@op("test.fickle_score", version=1, kind=Kind.SCORE, columns=["text"], out={"length": pl.Int64()})
def fickle_score(batch: pl.DataFrame, params: NoParams, ctx: OpContext) -> pl.DataFrame:
    """A length, if nothing is wrong."""
    return _misbehave(batch, batch.select("row_id", pl.lit(True).alias("passed"),
                                          pl.col("text").str.len_chars().cast(pl.Int64).alias("length")))


@op("test.fickle_words", version=1, kind=Kind.EXPAND, columns=["text"], out={"letter": pl.String()})
def fickle_words(batch: pl.DataFrame, params: NoParams, ctx: OpContext) -> pl.DataFrame:
    """Two letters of each text, if nothing is wrong."""
    found = [(parent, slot, text[slot]) for parent, text in enumerate(batch["text"].to_list()) for slot in (0, 1)]
    schema = {"_parent": pl.UInt32, "_slot": pl.Int32, "letter": pl.String}
    return _misbehave(batch, pl.DataFrame(found, schema=schema, orient="row"))


class AskParams(Params):
    """`n` answers per row."""

    n: int = 2


@op("test.fickle_ask", version=1, kind=Kind.EXPAND, params=AskParams, columns=["text"], out={"answer": pl.String()},
    extensible=("n",), asks_model=True)
class FickleAsk:
    """Asks a model, and collects the answers if nothing is wrong."""

    def requests(self, batch: pl.DataFrame, params: AskParams, ctx: OpContext) -> list[Any]:
        from factory.engine.op import Ask

        asks = [Ask(row, slot, prompt=text) for row, text in enumerate(batch["text"].to_list())
                for slot in range(params.n)]
        if "trigger" in batch["text"].to_list():
            fault = os.environ.get("TEST_FAULT")
            return {"drop": asks[:-1], "double": [*asks, asks[-1]], "raise": None}.get(fault or "", asks)
        return asks

    def collect(self, batch: pl.DataFrame, asks: Sequence[Any], completions: Sequence[Completion], params: AskParams,
                ctx: OpContext) -> pl.DataFrame:
        made = pl.DataFrame({"answer": [one.text for one in completions]}, schema={"answer": pl.String})
        if os.environ.get("TEST_FAULT") == "same" and "trigger" in batch["text"].to_list():
            return made[:-1]
        return made


class TrainParams(Params):
    """`epochs` is only identity."""

    epochs: int = 1


@op("test.train", version=1, kind=Kind.TRAIN, params=TrainParams, columns=["text"])
def train(job: Job, params: TrainParams, ctx: OpContext) -> TrainResult:
    """A tiny Llama with random weights and a byte-level tokenizer, seeded by the step; rows are its curve."""
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    (rows,) = job.inputs.values()
    folder = job.workdir / "checkpoint"
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE(vocab={char: index for index, char in enumerate(alphabet)}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.add_special_tokens(["<|end|>"])
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|end|>")
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    tokenizer.save_pretrained(folder)
    torch.manual_seed(ctx.seed)
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=96, eos_token_id=tokenizer.eos_token_id, bos_token_id=None, pad_token_id=None)
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    curve = rows.select("row_id").collect().with_row_index("step").with_columns(loss=1.0 / (pl.col("step") + 1))
    return TrainResult(folder, {"loss": 0.5}, {"curve": curve})


class GateParams(Params):
    """At least `least` rows must have come through."""

    least: int = 1


@op("test.gate", version=1, kind=Kind.GATE, params=GateParams)
def gate(job: Job, params: GateParams, ctx: OpContext) -> GateResult:
    """Enough rows, or stop."""
    rows = sum(frame.collect().height for frame in job.inputs.values())
    return GateResult(rows >= params.least, f"{rows} rows, wanted {params.least}", {"rows": float(rows)})


@composite("test.both", params=SizeParams)
def both(step_name: str, decl: dict[str, Any], params: SizeParams) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Size and rarity of the same rows."""
    shared = {key: value for key, value in decl.items() if key not in ("op", "params", "name")}
    return ({f"{step_name}.size": {**shared, "op": "test.size", "params": params.model_dump()},
             f"{step_name}.rare": {**shared, "op": "test.rare"}}, [f"{step_name}.size", f"{step_name}.rare"])
