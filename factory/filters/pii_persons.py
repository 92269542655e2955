"""Personal data in text: e-mail and IP addresses, telephone, card and bank account numbers, each by its own rule.

What is reserved for documentation is nobody's and no find: the domains of RFC 2606 and 6761, addresses that are
not global (IANA's registries, `ipaddress`), the numbers that regulators set aside for fiction (555 exchanges, Ofcom's
drama numbers), test cards of payment services, the account numbers that standards print. Digits alone are no find
either, since mathematics is full of them: a telephone number needs `+` and its country, a written form with brackets,
hyphens or dots, or a word such as `phone` before it, and must be valid by Google's numbering plans (`phonenumbers`); a
card number needs the groups of a card or a word such as `card` nearby, its issuer's prefix and length, and its check
digit (Luhn, ISO/IEC 7812-1); a bank account its country's length and check digits (ISO 13616, mod 97).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice

from factory.filters.pii_reserved import (
    DOMAINS,
    FICTION,
    IBAN_LENGTHS,
    NO_ONES,
    NOBODYS,
    PRINTED_IBANS,
    RESOLVERS,
    TEST_CARDS,
)
from factory.filters.pii_secrets import Span

_MAIL = re.compile(r"(?<![A-Za-z0-9._%+-])([A-Za-z0-9][A-Za-z0-9._%+-]{0,63})@((?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}"
                   r"[A-Za-z0-9])?\.){1,6})([A-Za-z]{2,24})(?![A-Za-z0-9(\[_-])(?!\.[A-Za-z0-9])")
_IPV4 = re.compile(r"(?<![\w.:-])((?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?:25[0-5]|2[0-4]\d|1?\d?\d)){3})"
                   r"(?![\w-]|\.\w)", re.A)
_IPV6 = re.compile(r"(?<![\w:.])([23][0-9A-Fa-f]{3}:[0-9A-Fa-f:]{4,35})(?![\w:])", re.A)
_NOT_NET = re.compile(r"(?i)(?:version|\bv|\bver\.?|section|chapter|build|release|§)\s{0,2}$")
_ABROAD = re.compile(r"(?<![\w+*/=^)\]}.,_-])(\+[1-9]\d{0,2}[ .-]?(?:\(\d{1,4}\)[ .-]?)?\d{1,5}(?:[ .-]?\d{1,5}){1,5})"
                     r"(?![\w^])", re.A)
_GROUPED = re.compile(r"(?<![\w+*/=^.,(-])(?:\([2-9]\d\d\) ?[2-9]\d\d-\d{4}|[2-9]\d\d([-.])[2-9]\d\d\1\d{4})"
                      r"(?![\w^-]|\.\d)", re.A)
_LABELS = ("phone", "Phone", "PHONE", "tel", "Tel", "TEL", "mobile", "Mobile", "MOBILE", "cell", "Cell", "fax", "Fax",
           "FAX", "hatsApp", "hatsapp", "contact number", "Contact number", "Contact Number", "elefon", "eléfono",
           "téléphone", "Téléphone", "电话", "手机", "联系方式", "電話", "携帯", "전화")
_CALLED = re.compile(r"(?:[ _](?:[nN]umber|[nN]o\.?)|o|号码|番号|번호| is| at|是|为|[.:：#=\s\"'*]|\(\w{1,6}\)){1,6}"
                     r"(\+?\(?\d[\d ().-]{5,20}\d)(?![\w^])", re.A)
_CARD = re.compile(r"(?<![\w.,/+*=^-])(?:\d{4}([ -])\d{4}\1\d{4}\1\d{4}|\d{4}([ -])\d{6}\2\d{4,5}|(\d{13,19}))"
                   r"(?![\w^]|[.,-]\d)", re.A)
_PAYS = re.compile(r"(?i)\b(?:card|visa|mastercard|amex|american express|discover|credit|debit|cvv|cvc|expir\w{0,6})\b|"
                   "信用卡|银行卡|卡号|カード")
_ISSUER = re.compile(r"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]\d\d|222[1-9]|22[3-9]\d|2[3-6]\d\d|27[01]\d|2720)\d{12}|"
                     r"3[47]\d{13}|6(?:011|4[4-9]\d|5\d\d)\d{12}|35(?:2[89]|[3-8]\d)\d{12}|3(?:0[0-5]|[689]\d)\d{11}|"
                     r"62\d{14,17}")
_IBAN = re.compile(r"(?<![A-Za-z0-9])([A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,4})?)(?![A-Za-z0-9])", re.A)
_MOST_PHONES = 2000

ROUGH = {
    "email": "[A-Za-z0-9._%+-]@[A-Za-z0-9]",
    "ip": r"[0-9]\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]|[23][0-9A-Fa-f]{3}:[0-9A-Fa-f:]{4}",
    "phone": r"\+[1-9][0-9 ().-]{4}|[0-9]{3}(?:\) ?|[-.])[0-9]{3}[-.][0-9]{4}|"
             "[pP]hone|PHONE|[mM]obile|MOBILE|[tT]el[ .:#=_]|TEL[ .:#]|[cC]ell[:_]|[fF]ax|FAX|"
             "hats[aA]pp|ontact [nN]umber|elefon|eléfono|éphone|电话|手机|联系方式|電話|携帯|전화",
    "card": "[0-9]{4}[ -][0-9]{4}[ -][0-9]{4}[ -]|[0-9]{4}[ -][0-9]{6}[ -][0-9]{4}|[0-9]{13}",
    "iban": "[A-Z]{2}[0-9]{2} ?[A-Z0-9]{4} ?[A-Z0-9]{4}",
}
"""For each kind what every text with a find of it holds, as in `pii_secrets`."""


def find_emails(text: str) -> Iterator[Span]:
    """E-mail addresses of somebody: not those of reserved or sample domains, nor of sample names."""
    for match in _MAIL.finditer(text):
        host, top = f"{match[2]}{match[3]}", match[3].lower()
        if ((len(top) == 2 or top in DOMAINS) and not match[1].endswith(".") and not NO_ONES.fullmatch(match[1])
                and not NOBODYS.fullmatch(host)):
            yield Span("email", match.start(), match.end())


def find_addresses(text: str) -> Iterator[Span]:
    """Global IP addresses, versions 4 and 6."""
    for match in _IPV4.finditer(text):
        # 1.2.3.4 is the number of a section; an address of four single digits is hardly ever anybody's.
        if (ipaddress.ip_address(match[1]).is_global and match[1] not in RESOLVERS and re.search(r"\d\d", match[1])
                and not _NOT_NET.search(text, max(match.start() - 12, 0), match.start())):
            yield Span("ipv4", match.start(), match.end())
    for match in _IPV6.finditer(text):
        try:
            if ipaddress.ip_address(match[1]).is_global:
                yield Span("ipv6", match.start(), match.end())
        except ValueError:
            continue


def find_phones(text: str, regions: Sequence[str]) -> Iterator[Span]:
    """Telephone numbers, among the first 2,000 that look like one; `regions` are the countries in which a number is
    tried that names none."""
    for start, end, own in islice(_likely_phones(text, tuple(regions)), _MOST_PHONES):
        if _is_number(text[start:end], own):
            yield Span("phone", start, end)


def _likely_phones(text: str, regions: tuple[str, ...]) -> Iterator[tuple[int, int, tuple[str, ...]]]:
    yield from ((*match.span(), ()) for match in _ABROAD.finditer(text))
    if "US" in regions or "CA" in regions:
        yield from ((*match.span(), ("US",)) for match in _GROUPED.finditer(text))
    for label in _LABELS:  # a few searches for fixed words take less than one search for any of them
        at = text.find(label)
        while at >= 0:
            called = _CALLED.match(text, at + len(label))
            if called:
                yield *called.span(1), regions
            at = text.find(label, at + len(label))


@lru_cache(maxsize=4096)
def _is_number(written: str, regions: tuple[str, ...]) -> bool:
    """Whether some plan has such a number, and not for fiction. With `+` the number names its own plan."""
    import phonenumbers

    for region in [None] if written.startswith("+") else regions:
        try:
            number = phonenumbers.parse(written, region)
        except phonenumbers.NumberParseException:
            continue
        if phonenumbers.is_valid_number(number):
            digits = f"{number.country_code}{number.national_number}"
            if not FICTION.fullmatch(digits) and len(set(digits)) > 3 and "1234567" not in digits:
                # Seven digits without an area are a number of some island, and of every riddle.
                return region is None or len(str(number.national_number)) > 7
    return False


def find_cards(text: str) -> Iterator[Span]:
    """Numbers of payment cards."""
    for match in _CARD.finditer(text):
        digits = re.sub("[ -]", "", match[0])
        if (_ISSUER.fullmatch(digits) and digits not in TEST_CARDS and len(set(digits)) > 3 and _luhn(digits)
                and (match[3] is None or _PAYS.search(text, max(match.start() - 80, 0), match.end() + 80))):
            yield Span("card", match.start(), match.end())


def find_accounts(text: str) -> Iterator[Span]:
    """International bank account numbers."""
    for match in _IBAN.finditer(text):
        written = match[1].replace(" ", "")
        size = IBAN_LENGTHS.get(written[:2], 0)
        number = written[:size]
        if 0 < size <= len(written) and number not in PRINTED_IBANS and _mod97(number):
            yield Span("iban", match.start(), match.start() + _position(match[1], size), 2)


def _luhn(digits: str) -> bool:
    total = sum(value if place % 2 == 0 else value * 2 - 9 * (value > 4)
                for place, value in enumerate(map(int, reversed(digits))))
    return total % 10 == 0


def _mod97(written: str) -> bool:
    return int("".join(str(int(sign, 36)) for sign in written[4:] + written[:4])) % 97 == 1


def _position(written: str, size: int) -> int:
    """Where the `size`-th sign that is no blank ends."""
    places = [at for at, sign in enumerate(written) if sign != " "]
    return places[size - 1] + 1
