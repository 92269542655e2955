"""Secret keys in text: the token formats that their issuers publish, found by prefix; samples are left out.

Issuers give their tokens fixed prefixes so that scanners find them; the table below follows their documentation. Two
kinds have no prefix and need their surroundings: a value in quotes that is assigned to a name such as `api_key`, and
the password of a URL. A *sample* opens nothing: a token that says so (`EXAMPLE`, `your-key`, `xxxx`), one that counts
(`1234567`, `abcdefg`), or one of too few different characters. Only the body behind the prefix is asked.

General detectors for repositories were measured and not taken: see the docs of `filter.pii`.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple


class Span(NamedTuple):
    """A find: what it is (`github`), where it begins and ends, and how much of its beginning may be shown."""

    what: str
    start: int
    end: int
    shown: int = 0


# what: (prefix, body). The body is what must look random; word characters on either side make it another thing.
_FORMATS: dict[str, tuple[str, str]] = {
    "aws": ("A(?:KIA|SIA|BIA|CCA)", "[A-Z2-7]{16}"),
    "github": ("gh[pousr]_", "[A-Za-z0-9]{36,251}"),
    "github_fine": ("github_pat_", r"\w{22}_\w{59}"),
    "gitlab": ("gl(?:pat|dt|ft|soat|rt|ptt|agent|oas)-", r"[\w-]{20,1024}"),
    "slack": ("xox[abeoprs]-", r"(?:\d+-){1,3}[A-Za-z0-9]{10,64}"),
    "slack_hook": (r"https://hooks\.slack\.com/services/", r"T\w{8,12}/B\w{8,12}/\w{20,26}"),
    "stripe": ("(?:sk|rk)_live_|whsec_", "[A-Za-z0-9]{24,247}"),
    "anthropic": (r"sk-ant-(?:api|admin)\d\d-", r"[\w-]{80,120}"),
    "openai": ("sk-(?:proj-|svcacct-|admin-)?", r"[\w-]{20,180}T3BlbkFJ[\w-]{20,180}"),
    "openrouter": ("sk-or-v1-", "[0-9a-f]{64}"),
    "groq": ("gsk_", "[A-Za-z0-9]{52}"),
    "xai": ("xai-", "[A-Za-z0-9]{80}"),
    "google": ("AIza", r"[\w-]{35}"),
    "google_client": ("GOCSPX-", r"[\w-]{28}"),
    "google_oauth": (r"ya29\.", r"[\w-]{50,400}"),
    "hugging_face": ("hf_", "[A-Za-z0-9]{34}"),
    "replicate": ("r8_", "[A-Za-z0-9]{37}"),
    "npm": ("npm_", "[A-Za-z0-9]{36}"),
    "pypi": ("pypi-AgE", r"[\w-]{70,250}"),
    "sendgrid": (r"SG\.", r"[\w-]{22}\.[\w-]{43}"),
    "twilio": ("SK", "[0-9a-f]{32}"),
    "mailgun": ("key-", "[0-9a-f]{32}"),
    "telegram": (r"\d{8,10}:AA", r"[\w-]{33}"),
    "discord": ("[MNO]", r"[\w-]{23,27}\.[\w-]{6}\.[\w-]{27,38}"),
    "digitalocean": ("do[opr]_v1_", "[0-9a-f]{64}"),
    "shopify": ("shp(?:at|ca|pa|ss)_", "[0-9a-fA-F]{32}"),
    "square": ("sq0(?:csp|atp|idp)-", r"[\w-]{22,43}"),
    "databricks": ("dapi", "[0-9a-f]{32}"),
    "vault": (r"hv[sbr]\.", r"[\w-]{24,300}"),
    "notion": ("ntn_|secret_", "[A-Za-z0-9]{43,46}"),
    "linear": ("lin_api_", "[A-Za-z0-9]{40}"),
    "azure_storage": ("AccountKey=", "[A-Za-z0-9+/]{86}=="),
    "age": ("AGE-SECRET-KEY-1", "[02-9AC-HJ-NP-Z]{58}"),
}
# One pattern for each: a search for fixed first letters is many times as fast as one for any of them.
_ISSUED = [(what.removesuffix("_fine"), re.compile(rf"({prefix})({body})(?![A-Za-z0-9_])"))
           for what, (prefix, body) in _FORMATS.items()]
_TOKEN = re.compile(r"(?<![\w-])(eyJ[\w-]{8,2000})\.(eyJ[\w-]{8,20000})\.([\w-]{20,2000})(?![\w-])")
_BLOCK = re.compile(r"-----BEGIN (?:[A-Z0-9]{2,10} ){0,2}PRIVATE KEY(?: BLOCK)?-----(?:\s|\\n){1,4}"
                    r"([A-Za-z0-9+/=:, \r\n\\-]{64})")
_USER_INFO = re.compile(r"://[^\s/:@\"'<>]{1,64}:([^\s/:@\"'<>{}$]{6,128})@[A-Za-z0-9.-]{4,253}")
_VALUE = re.compile(r"[:=]>? {0,3}([\"'])([A-Za-z0-9+/_.=~-]{20,200})\1")
_NAME = re.compile(r"(?i)(?:(?:api|access|auth|secret|private|client|account|encryption|signing)[_ -]?(?:key|token|"
                   r"secret|password)|(?<![a-z])(?:token|secret|passw(?:or)?d|pwd))[\"']? {0,3}:?$")
_SAMPLE = re.compile(r"(?i)example|sample|placeholder|dummy|redacted|changeme|change_me|replace|insert|invalid|secret|"
                     r"password|your[_-]?|my[_-]|x{4}|\*{3}|\.{3}|<|foobar|(.)\1{4}")
ROUGH = (
    r"A(?:KIA|SIA|BIA|CCA)[A-Z2-7]|gh[pousr]_|github_pat_|gl(?:pat|dt|ft|soat|rt|ptt|agent|oas)-|xox[abeoprs]-|"
    r"hooks\.slack|[sr]k_live_|whsec_|sk-[a-zA-Z0-9]|gsk_|xai-|AIza|GOCSPX-|ya29\.|hf_[A-Za-z0-9]{3}|r8_|npm_|pypi-AgE|"
    r"SG\.|SK[0-9a-f]{9}|key-[0-9a-f]{4}|:AA|do[opr]_v1_|shp(?:at|ca|pa|ss)_|sq0(?:csp|atp|idp)-|dapi[0-9a-f]|hv[sbr]\.|"
    r"ntn_|secret_[A-Za-z0-9]{20}|lin_api_|AccountKey=|AGE-SECRET|eyJ[A-Za-z0-9]|PRIVATE KEY|"
    r"\.[A-Za-z0-9_-]{6}\.[A-Za-z0-9_-]{27}|://[^ /:@]{1,64}:[^ /:@]{6,128}@|"
    r"[yYnNtTdD][\"']? {0,3}[:=]{1,2}>? {0,3}[\"'][A-Za-z0-9+/_.=~-]{20}")
"""What every text with a secret holds, for the engine behind polars: no captures, no word borders, one pass."""


def find_secrets(text: str) -> Iterator[Span]:
    """Secrets of a text, samples left out; they may overlap. Linear in the length of the text."""
    for what, issued in _ISSUED:
        for match in issued.finditer(text):
            if not _continues(text, match.start()) and not _is_sample(match[2]):
                yield Span(what, match.start(), match.end(), len(match[1]))
    for match in _TOKEN.finditer(text):
        if _is_web_token(match[1]) and not _is_sample(match[3]):
            yield Span("jwt", match.start(), match.end(), 3)
    for match in _BLOCK.finditer(text):
        if not _is_sample(match[1]):
            yield Span("private_key", match.start(), match.end(), 10)
    for match in _USER_INFO.finditer(text):
        if not _is_sample(match[1]) and len(set(match[1])) > 4:
            yield Span("url_password", match.start(1), match.end(1))
    for match in _VALUE.finditer(text):
        if _NAME.search(text[max(match.start() - 40, 0):match.start()]) and _is_random(match[2]):
            yield Span("assigned", match.start(2), match.end(2))


def _continues(text: str, at: int) -> bool:
    """Whether the character before belongs to the same word."""
    return at > 0 and text[at - 1].isascii() and (text[at - 1].isalnum() or text[at - 1] == "_")


def _is_web_token(head: str) -> bool:
    """Whether it is the head of a JSON Web Token (RFC 7519): an object that names its algorithm."""
    try:
        return "alg" in json.loads(base64.urlsafe_b64decode(head + "=" * (-len(head) % 4)))
    except (binascii.Error, ValueError, TypeError):
        return False


def _is_sample(body: str) -> bool:
    return bool(_SAMPLE.search(body)) or _counts(body) or (len(body) >= 16 and len(set(body)) < 7)


def _is_random(value: str) -> bool:
    """Whether a value without a known prefix looks drawn: letters and digits, at least 3.5 bits a character."""
    if _is_sample(value) or not (re.search(r"\d", value) and re.search("[A-Za-z]", value)):
        return False
    shares = [count / len(value) for count in Counter(value).values()]
    return -sum(share * math.log2(share) for share in shares) >= 3.5


def _counts(body: str) -> bool:
    """Whether seven characters in a row count up or down."""
    steps = [ord(after) - ord(before) for before, after in pairwise(body)]
    run, last = 0, 0
    for step in steps:
        run = run + 1 if step == last and step in (1, -1) else 1
        last = step
        if run >= 6 and step in (1, -1):
            return True
    return False
