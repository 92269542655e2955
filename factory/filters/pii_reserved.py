"""What belongs to nobody though it has the form of personal data, and the small registries that tell forms apart.

Sources: RFC 2606 and 6761 (domains), IANA's root zone (top-level domains; any of two letters is a country's), the North
American Numbering Plan, Ofcom and ACMA (numbers for fiction), the documentation of payment services (test cards), ISO
13616's registry (lengths of account numbers, and the ones printed as examples).
"""

from __future__ import annotations

import re

_TOPS = """
com org net edu gov mil int info biz name pro mobi coop aero museum jobs travel asia cat tel post xyz online site tech
store shop cloud email app dev page blog club design digital global group life live media network news one solutions
space studio team today top web website wiki work world zone google agency academy art bank care center chat city
company consulting education engineer expert express finance fund guru health help host industries institute
international link ltd management market ninja partners photo press school science services social software support
systems university ventures vip"""
DOMAINS = frozenset(_TOPS.split())
"""Top-level domains of more than two letters. Others are taken for code (`A@B.shape`)."""

NOBODYS = re.compile(
    r"(?i)(?:.*\.)?(?:example|test|invalid|localhost|local)|(?:.*\.)?example\.[a-z.]+|"
    r"(?:your|my|some|the)?-?(?:domain|company|email|mail|site|website|server|host|test|sample|acme|organization|foo|bar|"
    r"xyz|abc)\.(?:com|org|net|edu|io)")
"""Hosts of samples."""

NO_ONES = re.compile(r"(?i)git|(?:your|my)[._-]?(?:e?mail|name|address)|user(?:name)?|e?mail|name|x+|foo|bar|no-?reply|"
                     r"(?:first|last)(?:name)?[._-](?:last|first)(?:name)?")
"""Local parts of e-mail addresses that name no one."""

RESOLVERS = frozenset(("8.8.8.8", "8.8.4.4", "1.1.1.1", "1.0.0.1", "9.9.9.9", "208.67.222.222", "208.67.220.220"))
"""Public name servers, which texts about networks use as examples."""

FICTION = re.compile(r"1\d{3}555\d{4}|44(?:20794600\d\d|7700900\d{3}|1632960\d{3}|808157\d{4})|"
                     r"61(?:491570\d{3}|[2378]5550\d{4}|[2378]7010\d{4})")
"""Telephone numbers (country code and national number) set aside for stories."""

_CARDS = """
4111111111111111 4242424242424242 4012888888881881 4222222222222 4000056655665556 5555555555554444 2223003122003222
5200828282828210 5105105105105100 378282246310005 371449635398431 378734493671000 6011111111111117 6011000990139424
6011981111111113 3056930009020004 30569309025904 36227206271667 38520000023237 3566002020360505 3530111333300000
6200000000000005 4000000000000002 4000000000009995 4000002500003155 4000000000000077 4532015112830366
4539578763621486 4539148803436467 1234567812345670 4000002760003184"""
TEST_CARDS = frozenset(_CARDS.split())

_SIZES = """
AD:24 AE:23 AL:28 AT:20 AZ:28 BA:20 BE:16 BG:22 BH:22 BR:29 BY:28 CH:21 CR:22 CY:28 CZ:24 DE:22 DK:18 DO:28 EE:20 EG:29
ES:24 FI:18 FO:18 FR:27 GB:22 GE:22 GI:23 GL:18 GR:27 GT:28 HR:21 HU:28 IE:22 IL:23 IQ:23 IS:26 IT:27 JO:30 KW:30 KZ:20
LB:28 LC:32 LI:21 LT:20 LU:20 LV:21 MC:27 MD:24 ME:22 MK:19 MR:27 MT:31 MU:30 NL:18 NO:15 PK:24 PL:28 PS:29 PT:25 QA:29
RO:24 RS:22 SA:24 SC:31 SE:24 SI:19 SK:24 SM:27 ST:25 SV:28 TL:23 TN:24 TR:26 UA:29 VA:22 VG:24 XK:20"""
IBAN_LENGTHS = {pair[:2]: int(pair[3:]) for pair in _SIZES.split()}

_EXAMPLES = """
GB82WEST12345698765432 GB29NWBK60161331926819 DE89370400440532013000 FR1420041010050500013M02606
ES9121000418450200051332 IT60X0542811101000000123456 NL91ABNA0417164300 CH9300762011623852957 BE68539007547034
AT611904300234573201 GB33BUKB20201555555555"""
PRINTED_IBANS = frozenset(_EXAMPLES.split())
