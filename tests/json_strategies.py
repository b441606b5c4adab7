"""JSON texts for property tests: well-formed in every spelling the grammar allows, and nearly well-formed."""

from __future__ import annotations

from hypothesis import strategies as st

NUMBERS = st.sampled_from(
    ["0", "-0", "-0.0", "1", "1.0", "1e5", "1E+5", "9007199254740993", "18446744073709551616", "1e999", "-1e-999"]
) | st.integers().map(str)

# As they stand between the quotes: escapes of every form, what looks like one, and characters of every length.
STRING_PARTS = st.sampled_from(
    [
        *("a", "id", ":", ",", "[", "]", "{", "}", " ", "é", "\u20ac", "\U0001f600", "\u202e", "\ufffd", "\x7f"),
        *(
            "\\n",
            '\\"',
            "\\\\",
            "\\/",
            "\\u0041",
            "\\u00e9",
            "\\ud83d\\ude00",
            "\\uFFFD",
            "u0000",
            "ud800",
            "\\\\u0000",
        ),
    ]
)
# What may not be stored: lone halves, halves in the wrong order, NUL.
BROKEN_PARTS = st.sampled_from(["\\ud800", "\\uDFFF", "\\udc00\\ud800", "\\ud83d\\ud83d\\ude00", "\\u0000"])

BLANKS = st.sampled_from(["", "", "", " ", "\n", "\t \r\n"])


def strings(parts=STRING_PARTS, size_max=6):
    return st.lists(parts, max_size=size_max).map(lambda chosen: '"' + "".join(chosen) + '"')


@st.composite
def _arrays(draw, items):
    blanks = [draw(BLANKS) for _ in range(2)]
    inside = f"{blanks[0]},{blanks[1]}".join(draw(st.lists(items, max_size=5)))
    return f"[{blanks[0]}{inside}{blanks[1]}]"


@st.composite
def _objects(draw, items, names):
    blank = draw(BLANKS)
    members = draw(st.lists(st.tuples(names, items), max_size=5))
    return "{" + f"{blank},{blank}".join(f"{name}{blank}:{blank}{value}" for name, value in members) + blank + "}"


def values(parts=STRING_PARTS, leaves_max=12):
    """Any JSON value as text."""
    scalars = NUMBERS | strings(parts) | st.sampled_from(["true", "false", "null"])
    return st.recursive(scalars, lambda inner: _arrays(inner) | objects(inner, parts), max_leaves=leaves_max)


def arrays(items=None):
    """A JSON array as text."""
    return _arrays(values() if items is None else items)


def objects(items=None, parts=STRING_PARTS, names=None):
    """A JSON object as text; names may repeat."""
    return _objects(values(parts) if items is None else items, strings(parts, 2) if names is None else names)


@st.composite
def damaged(draw, texts):
    """A text of *texts* with a byte cut out, doubled or replaced, or cut short."""
    text = draw(texts).encode()
    place = draw(st.integers(0, max(len(text) - 1, 0)))
    other = draw(
        st.sampled_from([b"", b"\x00", b'"', b"\\", b"{", b"]", b",", b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"1"])
    )
    return draw(
        st.sampled_from([text[:place], text[:place] + other + text[place + 1 :], text[:place] + other + text[place:]])
    )
