"""Makes the files beside it: `python recipes/nano/make_files.py` writes `short_tasks.jsonl` and `tokenizer/`.

The short tasks are the recipe's non-reasoning data: trivial questions with direct answers.

The tokenizer is an ordinary transformers tokenizer (byte-level BPE), lossless on any text, but small and fitted to the
recipe's texts, because on a CPU the vocabulary and the number of tokens are the time: digits are tokens of their own,
common words are one token, and so is the long preamble of the R1-Zero template. The reasoning tags are added as
ordinary tokens, not special ones: trainers decode without special tokens, and rewards must see the tags.
"""

from __future__ import annotations

import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from factory.engine.prompts import parse, read_template

HERE = Path(__file__).parent
CHAT = ("{%- for message in messages -%}{%- if message.role == 'assistant' -%}{% generation %}{{ ' ' + "
        "message.content | trim + eos_token }}{% endgeneration %}{%- else -%}"
        "{{ 'User: ' + message.content + ' Assistant:' }}{%- endif -%}{%- endfor -%}")
PROSE = [
    "User: What is 2 + 3 * 4? Assistant:", ". Assistant:",
    " I multiply first: 3 * 4 = 12. Then I add: 2 + 12 = 14.", " Then I subtract: 2 - 12 = -10.",
    " I add first: 2 + 3 = 5. Then I multiply: 5 * 4 = 20.", " I subtract first: 2 - 3 = -1.",
    " 先算乘法: 3 * 4 = 12. 再算加法: 2 + 12 = 14.", " 再算减法: 2 - 12 = -10.", " 先算加法: 先算减法: 再算乘法:",
]
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]
DAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
OPPOSITES = {"hot": "cold", "big": "small", "up": "down", "open": "closed", "fast": "slow", "light": "dark",
             "early": "late", "full": "empty"}


def short_tasks() -> list[tuple[str, str]]:
    """(question, answer) pairs that need no thinking."""
    pairs = [(left, right) for left in range(10) for right in range(10) if left != right]
    tasks = [(f"Which is larger, {left} or {right}?", str(max(left, right))) for left, right in pairs]
    tasks += [(f"Which is smaller, {left} or {right}?", str(min(left, right))) for left, right in pairs]
    tasks += [(f"Which number comes after {number}?", str(number + 1)) for number in range(99)]
    tasks += [(f"Which number comes before {number}?", str(number - 1)) for number in range(1, 99)]
    tasks += [(f"What is the word for {number}?", word) for number, word in enumerate(NUMBERS[:13])]
    tasks += [(f"Which day comes after {day}?", after) for day, after in zip(DAYS, DAYS[1:] + DAYS[:1], strict=True)]
    return tasks + [(f"What is the opposite of {word}?", other) for word, other in OPPOSITES.items()]


def make_tokenizer(texts: list[str]) -> PreTrainedTokenizerFast:
    """Train the tokenizer on texts; the preamble and the tags become tokens of their own."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r" ?\p{N}| ?[\p{Han}]+| ?\p{L}+| ?[^\s\p{L}\p{N}]|\s+"), behavior="isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=512, initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
                                  special_tokens=["<|end|>", "<|pad|>"], show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    preamble = (parse(read_template("r1_zero", HERE)).prompt or "").split("{prompt}")[0]
    tokenizer.add_tokens([AddedToken(text, special=False, normalized=False)
                          for text in (preamble.rstrip(), "<think>", "</think>", "<answer>", "</answer>")])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", pad_token="<|pad|>",
                                   model_max_length=128, clean_up_tokenization_spaces=False)
    fast.chat_template = CHAT
    return fast


def main() -> None:
    """Write both."""
    tasks = short_tasks()
    lines = [json.dumps({"prompt": question, "response": answer}) for question, answer in tasks]
    (HERE / "short_tasks.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    words = [f" {question} {answer}" for question, answer in tasks if not any(sign.isdigit() for sign in question)]
    words += [f" {digit}" for digit in range(10)]
    words += [" Which is larger, or smaller?", " Which number comes after?", " Which number comes before?"]
    tokenizer = make_tokenizer((PROSE + words) * 4)
    tokenizer.save_pretrained(HERE / "tokenizer")
    print(f"{len(tasks)} short tasks; {len(tokenizer)} tokens")


if __name__ == "__main__":
    main()
