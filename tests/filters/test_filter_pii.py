"""filter.pii: planted finds of every kind, what only looks like one, masked reasons, and any cut of a batch."""

from __future__ import annotations

import gzip
import json
import random
import string
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from factory.engine.errors import DataError
from factory.engine.op import OpContext
from factory.filters.pii import KINDS, PiiParams, find_pii, pii

LETTERS, HEX = string.ascii_letters + string.digits, "0123456789abcdef"
ISSUED = (  # (name, parts): a part is fixed text, or an alphabet and how many are drawn from it
    ("aws", "AKIA", (string.ascii_uppercase, 16)), ("github", "ghp_", (LETTERS, 36)),
    ("github", "github_pat_", (LETTERS, 22), "_", (LETTERS, 59)), ("gitlab", "glpat-", (LETTERS, 20)),
    ("slack", "xoxb-", (string.digits, 11), "-", (string.digits, 12), "-", (LETTERS, 24)),
    ("stripe", "sk_live_", (LETTERS, 24)), ("anthropic", "sk-ant-api03-", (LETTERS, 93)),
    ("openai", "sk-", (LETTERS, 20), "T3BlbkFJ", (LETTERS, 20)),
    ("openai", "sk-proj-", (LETTERS, 74), "T3BlbkFJ", (LETTERS, 74)), ("groq", "gsk_", (LETTERS, 52)),
    ("google", "AIza", (LETTERS, 35)), ("google_client", "GOCSPX-", (LETTERS, 28)), ("npm", "npm_", (LETTERS, 36)),
    ("hugging_face", "hf_", (LETTERS, 34)), ("pypi", "pypi-AgEIcHlwaS5vcmc", (LETTERS, 120)),
    ("sendgrid", "SG.", (LETTERS, 22), ".", (LETTERS, 43)), ("twilio", "SK", (HEX, 32)), ("mailgun", "key-", (HEX, 32)),
    ("telegram", "123987456:AA", (LETTERS, 33)), ("digitalocean", "dop_v1_", (HEX, 64)),
    ("discord", "M", (LETTERS, 23), ".", (LETTERS, 6), ".", (LETTERS, 27)), ("shopify", "shpat_", (HEX, 32)),
    ("databricks", "dapi", (HEX, 32)), ("vault", "hvs.", (LETTERS, 24)), ("replicate", "r8_", (LETTERS, 37)),
    ("square", "sq0csp-", (LETTERS, 43)), ("azure_storage", "AccountKey=", (LETTERS + "+/", 86), "=="),
    ("jwt", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiI5MDIxIn0.", (LETTERS, 43)),
)
WRAPPED = (  # (name, before, drawn, after): only the drawn part is the find
    ("assigned", 'api_key = "', (LETTERS, 32), '"'), ("assigned", "'client_secret': '", (LETTERS, 40), "'"),
    ("url_password", "postgres://admin:", (LETTERS, 16), "@db.internal.io:5432/app"),
)
PERSONS = (
    ("email", "jane.doe+work@stanford.edu"), ("email", "li_wei88@qq.com"), ("email", "a.b@mail.co.uk"),
    ("phone", "+49 30 91825374"), ("phone", "+1 (415) 682-7310"), ("phone", "(415) 682-7310"),
    ("phone", "415.682.7310"), ("phone", "+8613812395678"), ("phone", "+44 20 7183 8750"), ("ip", "91.198.174.192"),
    ("ip", "2a02:ec80:300:ed1a::1"), ("card", "4539 1488 0343 6475"), ("card", "5425-2334-3010-9903"),
    ("card", "3714 496353 98456"), ("iban", "DE75512108001245126199"), ("iban", "FR76 3000 6000 0112 3456 7890 189"),
    ("iban", "NL02 ABNA 0123 4567 89"),
)
CALLED = ("Phone: 4156827310", "手机号码：13812395678", "Tel. 030 91825374", "call his mobile 9876543210")
HARMLESS = (
    "user@example.com and me@sub.example.org, name@yourdomain.com, git@github.com:a/b.git", "y = A@B.T + X@W.shape",
    "ping 127.0.0.1, 10.0.0.7, 192.168.1.1, 203.0.113.9 and 8.8.8.8", "Section 1.2.3.4, version 10.20.30.40",
    "call 555-1234 or 212-555-0123 or (212) 555-0199", "f(2) = 415682731 + 4156827310 - 2025550123",
    "4111 1111 1111 1111 and 4242-4242-4242-4242", "the number 4539148803436475 is divisible by 5",
    "1234 5678 9012 3456", "GB82 WEST 1234 5698 7654 32", "x +12345678901 y", "a::b std::vector dead:beef::1",
    "AKIAIOSFODNN7EXAMPLE", 'api_key = "your-api-key-goes-here-123"', "sk-1234567890abcdefghijklmnop", 'token = "abc"',
    'password: "correct horse battery staple"', "ghp_" + "x" * 36, "-----BEGIN PRIVATE KEY-----\n...\n",
    "3.14159265358979323846264338327950288419716939937510", r"\frac{4539 1488}{0343 6475}", "100-250-1000",
    "https://user:password@host.com", "phone number is 271-3147", "https://a.b/c?x=1", "2001:02:03", "@decorator",
)
DIFFICULT = ("", " ", "x", "\0", "\u200b", "🙂" * 3, "مرحبا " * 9, "$\\int_0^1 x^2 dx$", "@" * 9, "a@" * 99, "1-" * 99,
             "+1 " * 99, "://:" * 99, "eyJ." * 99, "phone " * 99, "00 " * 99, "DE00 " * 99, "-----BEGIN " * 9)


def drawn(parts: tuple[Any, ...], seed: int = 5) -> str:
    rng = random.Random(seed)
    return "".join(part if isinstance(part, str) else "".join(rng.choices(part[0], k=part[1])) for part in parts)


def score(*texts: str | None, **params: Any) -> list[dict[str, Any]]:
    batch = pl.DataFrame({"response": texts}, schema={"response": pl.String})
    return pii(batch, PiiParams(**params), OpContext()).to_dicts()


@pytest.mark.parametrize(("what", "secret"), [(name, drawn(parts)) for name, *parts in ISSUED])
def test_tokens_of_issuers_fail_a_row_and_are_never_told(what: str, secret: str) -> None:
    before = "<think>I wrote "
    (row,) = score(f"{before}{secret} here.</think>done")
    assert (row["passed"], row["reason_code"], row["secret_thinking"]) == (False, "secret", 1)
    assert json.loads(row["evidence"]) == [["secret", what, len(before), len(secret)]]
    assert secret[-8:] not in row["reason"]


@pytest.mark.parametrize("seed", range(20))
def test_secrets_without_a_format_are_known_by_what_stands_around_them(seed: int) -> None:
    for what, before, alphabet, after in WRAPPED:
        secret = drawn((alphabet,), seed)
        (row,) = score(f"密钥{before}{secret}{after}")
        assert json.loads(row["evidence"]) == [["secret", what, 2 + len(before), len(secret)]]
        assert secret not in row["reason"]
    key = drawn(((LETTERS + "+/", 64), "\n", (LETTERS, 64)), seed)
    assert score(f"-----BEGIN RSA PRIVATE KEY-----\n{key}")[0]["secret_answer"] == 1


@pytest.mark.parametrize(("kind", "text"), PERSONS)
def test_personal_data_is_counted_where_it_stands(kind: str, text: str) -> None:
    for before, after in (("", ""), ("Write to ", "."), ("给", "，谢谢"), ("(see: ", ")")):
        (row,) = score(f"<think>{before}{text}{after}</think>42")
        ((found, _what, *place),) = json.loads(row["evidence"])
        assert (found, place) == (kind, [7 + len(before), len(text)])
        assert (row[f"{kind}_thinking"], row[f"{kind}_answer"], row["score"]) == (1, 0, 1)
        assert row["passed"] is (kind not in ("card", "iban"))
        assert text not in row["reason"]
    assert score(text, fail_on=(kind,))[0]["reason_code"] == kind


@pytest.mark.parametrize("text", CALLED)
def test_a_word_makes_digits_a_telephone_number(text: str) -> None:
    assert score(text)[0]["phone_answer"] == 1


def test_a_masked_address_can_be_recognised() -> None:
    assert "al***@st***.edu" in score("alice.liddell@stanford.edu")[0]["reason"]


@pytest.mark.parametrize("text", [*HARMLESS, *DIFFICULT])
def test_what_is_reserved_or_only_looks_like_it_is_no_find(text: str) -> None:
    (row,) = score(text)
    assert (row["passed"], row["score"], row["evidence"]) == (True, 0.0, "[]"), row["reason"]


FRAGMENTS = [drawn(parts) for _, *parts in ISSUED] + [text for _, text in PERSONS] + [
    before + drawn((alphabet,)) + after for _, before, alphabet, after in WRAPPED] + [*CALLED, *HARMLESS]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=6), st.sampled_from(" \n.,：(-")),
                         max_size=8).map("".join), min_size=1, max_size=6), st.integers(0, 6))
def test_the_rough_pass_loses_nothing_and_the_cut_of_a_batch_says_nothing(texts: list[str], cut: int) -> None:
    rows = score(*texts)
    for text, row in zip(texts, rows, strict=True):
        found = find_pii(text)
        assert row["score"] == len(found)
        told = [[one.kind, one.what, one.start, one.end - one.start] for one in found[:50]]
        assert json.loads(row["evidence"]) == told
        assert sum(row[f"{kind}_{part}"] for kind in KINDS for part in ("thinking", "answer")) == len(found)
    assert score(*texts[:cut]) + score(*texts[cut:]) == rows


def test_long_rows_take_linear_time_and_null_is_undecided() -> None:
    secret = drawn(("ghp_", (LETTERS, 36)))
    for filler in ("a", "1", "x ", "1.", "a@", "eyJ", "+1 ", "12-", "phone 1", "://a:", "漢"):
        (row,) = score(filler * (1_000_000 // len(filler)) + f" {secret}")
        assert row["secret_answer"] == 1
    many = " ".join(f"p{n}@stanford.edu +1415682{n:04}" for n in range(9999)) + " "
    (row,) = score(many * 15)
    assert (len(many) * 15 > 4_500_000, row["email_answer"]) == (True, 15 * 9999)
    assert [row["passed"] for row in score(None, "a")] == [None, True]
    assert score(None)[0]["reason_code"] == "no_text"
    with pytest.raises(DataError, match="response"):
        pii(pl.DataFrame({"response": [1]}), PiiParams(), OpContext())
    with pytest.raises(ValidationError, match="ISO 3166-1"):
        PiiParams(regions=("usa",))


def test_mathematics_does_not_alarm() -> None:
    data = next((folder / "shared" / "data" for folder in Path(__file__).parents
                 if (folder / "shared" / "data" / "traces").is_dir()), None)
    if data is None:
        pytest.skip("shared/data/traces is not beside this checkout")
    with gzip.open(data / "traces" / "zeroeval_sample.jsonl.gz", "rt", encoding="utf-8") as file:
        texts = [record["output"] for record in map(json.loads, file) if "crux" not in record["source"]]
    rows = score(*texts[:2000])
    assert len(rows) > 500
    assert sum(row["score"] > 0 for row in rows) <= 0.001 * len(rows)
    assert all(row["passed"] for row in rows)
