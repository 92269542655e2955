"""The rare rows with several thinking blocks: split by `split_response`, places told in bytes."""

from __future__ import annotations

from factory.engine.text import split_response


def split_odd(text: str) -> tuple[tuple[int, int], tuple[int, int] | tuple[int, str] | None]:
    """Byte span of the thinking in the text, (-1, -1) if there is none; and the answer's, or (where it begins, the
    answer) where it stands in pieces, or None."""
    def size(upto: int) -> int:
        return len(text[:upto].encode())

    split = split_response(text)
    thinking = (-1, -1)
    if split.thinking is not None:
        thinking = size(split.thinking_at), size(split.thinking_at + len(split.thinking))
    if split.answer is None:
        return thinking, None
    end = split.answer_at + len(split.answer)
    if text[split.answer_at:end] == split.answer:
        return thinking, (size(split.answer_at), size(end))
    return thinking, (size(split.answer_at), split.answer)


def find_pieces(text: bytes, size: int, begin: int) -> list[tuple[int, int]]:
    """The pieces of `text` between later thinking blocks that an answer of `size` bytes was joined of, from
    byte `begin` on."""
    pieces, at, left = [], begin, size
    while left > 0:
        opened = text.find(b"<think>", at)
        taken = min(left, (len(text) if opened < 0 else opened) - at)
        pieces.append((at, taken))
        left -= taken
        closed = text.find(b"</think>", opened) if opened >= 0 else -1
        if closed < 0:
            break
        at = closed + len(b"</think>")
    return pieces
