"""The forms of secrets as patterns. Compiling them takes some milliseconds, so `scrub/secrets` loads this when it must.

Every pattern takes time that is linear in the text: what repeats is possessive or counted, and ends where the next try
begins. All but those that are matched at a known place begin with a set of characters, for which a search is quick.
"""

from __future__ import annotations

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

NAME_CHARS_MAX: Final = 48  # of a name inside a text, to each side of its secret word's end
_FLAGS: Final = re.ASCII

# Sorted by their first letter below, so that most are ruled out by one comparison.
_PROVIDERS: Final = r"""
    sk-(?:(?=[A-Za-z_-]{0,18}+[0-9])[\w-]{13,}+|[\w-]{20,}+)
    sk_(?:live|test|prod)_\w{10,}+  rk_(?:live|test|prod)_\w{10,}+  whsec_[\w+/=]{16,}+  sess-\w{20,}+
    A(?:KIA|SIA)[A-Z0-9]{16}  AIza[\w-]{30,}+  ATATT3[\w=-]{20,}+  AGE-SECRET-KEY-1\w{20,}+
    AA(?<=[0-9]:..)[\w-]{33}
    ya29\.[\w-]{20,}+  GOCSPX-[\w-]{20,}+
    gh[pousr]_\w{20,}+  github_pat_\w{20,}+  gl(?:pat|ptt|dt|rt|cbt|ft|soat|agent|imt)-[\w-]{16,}+  gsk_\w{20,}+
    xox[a-z](?:\.xox[a-z])?-[\w-]{10,}+  xapp-[\w-]{16,}+  xai-\w{20,}+
    hf_\w{20,}+  hvs\.[\w-]{20,}+  hooks\.slack\.com/services/[\w/]{20,}+
    npm_\w{30,}+  ntn_\w{20,}+  pypi-[\w-]{16,}+  pplx-\w{20,}+  phx_\w{20,}+  pat[A-Z0-9]\w{13}\.\w{30,}+
    lw_[A-Za-z0-9]{32}  lin_api_\w{20,}+  r8_\w{20,}+  tvly-[\w-]{16,}+
    SG\.[\w-]{16,}+\.[\w-]{16,}+  SK[0-9a-f]{32}  key-[0-9a-f]{32}
    shp(?:at|ca|pa|ss)_\w{20,}+  sntry[su]_[\w=+/]{20,}+  sq0[a-z]{3}-[\w-]{20,}+  sbp_\w{20,}+
    d(?:op|oo|or)_v1_\w{20,}+  dapi[0-9a-f]{32}  dckr_pat_[\w-]{20,}+  PMAK-[\w-]{20,}+  NRAK-\w{20,}+
"""
_QUOTE: Final = r"""\\{0,127}+["']|%2[27]"""
_SEPARATOR: Final = r"=>|:?={1,3}+|:(?!//|:)|%3[AaDd]"


def _by_first_letter(sources: list[str]) -> str:
    """Any of these, at the start of a word."""
    groups: dict[str, list[str]] = {}
    for source in sources:
        groups.setdefault(source[0], []).append(source[1:])
    return "|".join(f"{first}(?<![A-Za-z0-9].)(?:{'|'.join(rests)})" for first, rests in groups.items())


# The first of a pair if it is a name: one or two words, no line of code and no sentence.
LABEL: Final = re.compile(r"[^\s(){}=?]++(?: [^\s(){}=?]++)?", _FLAGS)
WORD: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", _FLAGS)

PROVIDER: Final = re.compile(_by_first_letter(_PROVIDERS.split()), _FLAGS)
# (1) if it is one; else the word is passed as a whole, for every `-eyJ` inside it ends where the first has ended.
JWT: Final = re.compile(r"eyJ(?<![A-Za-z0-9]...)[\w-]{8,}+(\.[\w-]{8,}+(?:\.[\w-]*+){0,3}+)?", _FLAGS)
BASE64_PART: Final = re.compile(r"[A-Za-z0-9]{16,}+", _FLAGS)

# A sign that may stand between a name and a value: not those of URLs and times.
SEPARATOR: Final = re.compile(
    r"""[=:%](?:(?<==)|(?<=%)3|(?<=[A-Za-z"'\s\\\]]:)(?!//|:)|(?<=%2[27]:)|(?<=[0-9]:)\s)""", _FLAGS
)
# Behind a secret word: the rest of the name (1), its closing quote (2), the separator (3), the value's quote (4).
ASSIGNMENT: Final = re.compile(
    rf"([\w.-]{{0,{NAME_CHARS_MAX}}}+)({_QUOTE})?\]?\s{{0,8}}+({_SEPARATOR})\s{{0,8}}+(b?(?:{_QUOTE}))?", _FLAGS
)
NAME_BACKWARDS: Final = re.compile(r"[\w.-]*+", _FLAGS)
# A value without quotes. Some signs end it only in front of the next name.
VALUE: Final = re.compile(
    r"""(?:[^\s&;,"'<\\)\]}%]++|[&;,](?![\s"']|\Z|[\w .-]{1,40}+=)|%(?!2[267]|3[Bb])"""
    r"""|\\(?![nrt"'\\])|<(?!/|redacted>)|[)\]}](?![\s,;.)\]}"']|\Z))++""",
    _FLAGS,
)
LITERAL: Final = re.compile(r"true|false|null|none|nil|undefined|[-+]?[0-9]++(?:\.[0-9]++)?", _FLAGS | re.IGNORECASE)
CODE: Final = re.compile(r"[A-Za-z_][\w.]*+[(\[]|self\.", _FLAGS)
LINE_END: Final = re.compile(r"[\r\n\"']", _FLAGS)
BRACKET: Final = re.compile(r"[\[\]{}()]", _FLAGS)
# How an Authorization header begins; (1) if what follows is more than one word.
SCHEME: Final = re.compile(
    r"(?:bearer|basic|token|negotiate|ntlm|api-?key|key|dpop|(digest|hawk|signature|aws4[\w-]*+))[ \t]++",
    _FLAGS | re.IGNORECASE,
)

USERINFO: Final = re.compile(r""":/{1,3}+[^\s/?#@:"'<>\\]*+:([^\s/?#"'<>\\]+)@""", _FLAGS)

# (1) looks like a card; a long number that does not is skipped as a whole.
CARD: Final = re.compile(
    r"([2-6](?<![0-9A-Fa-f].)(?<![0-9]\..)(?:[0-9]{12,18}+|[0-9]{3}([ -])[0-9]{4}\2[0-9]{4}\2[0-9]{1,7}+"
    r"|[0-9]{3}([ -])[0-9]{6}\3[0-9]{4,5}+)(?![0-9A-Fa-f]))|[0-9]{8,}+",
    _FLAGS,
)
# What directly follows goes with it: behind the mark in its place, it would begin a word of its own.
REST_OF_WORD: Final = re.compile(r"[\w-]*+", _FLAGS)
