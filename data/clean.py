"""One spelling of line ends, blanks, quotation marks and dashes for books and Reddit alike.

In: any text.  Out: the same letters with one convention around them: a model sees one opening quote and not five.

    line ends       CRLF, CR, form feed, vertical tab, NEL, U+2028 -> LF; U+2029 -> two
    blank lines     three or more LF -> two; none at the start and the end of the text
    blanks          tab, no-break space and the other Unicode blanks -> space; blanks at the end of a line off
    invisible       byte order mark, soft hyphen, zero-width space, word joiner, direction marks, other controls -> off
    quotes          ‘ ’ ‚ ‛ ′ ´ -> '     “ ” „ ‟ ″ -> "     (« » ‹ › and ` stay: they have no straight twin)
    ellipsis        … -> ...
    dashes          two hyphens, en dash, horizontal bar -> —, and a — with blanks on both sides loses them: word—word
    ranges          between two digits, two hyphens or an en dash -> one hyphen: 10-20
    hyphens         U+2010, U+2011 and the figure dash -> -; a single hyphen, with blanks around it or not, stays
    rules           three or more hyphens stay: a scene break, or a name left out ("Mr. ----")

A blank on one side of a dash stays ("I— I cannot"), and so does what follows a dash at the start of a line.
"""

import re

_SPELLED: dict[str, str] = {
    # controls, C0 and C1, but for LF and those below
    **dict.fromkeys(map(chr, [*range(0x0A), *range(0x0B, 0x20), *range(0x7F, 0xA0)]), ""),
    **dict.fromkeys("\u00ad\u200b\u200e\u200f\u2060\ufeff", ""),
    **dict.fromkeys("\r\v\f\x85\u2028", "\n"),
    **dict.fromkeys("\t\xa0\u1680\u202f\u205f\u3000", " "),
    **dict.fromkeys(map(chr, range(0x2000, 0x200B)), " "),
    **dict.fromkeys("‘’‚‛′´", "'"),
    **dict.fromkeys("“”„‟″", '"'),
    **dict.fromkeys("\u2010\u2011\u2012", "-"),
    "\u2015": "—",
    "\u2029": "\n\n",
    "…": "...",
}
_SPELLED_ANEW = re.compile(f"[{re.escape(''.join(_SPELLED))}]")  # few are; str.translate would look at every character

# Patterns begin with the characters they are about, which a search skips to; what must come before is looked back at.
_RANGE = re.compile(r"-(?<=\d-)-(?=\d)|–(?<=\d–)(?=\d)")
_DASH = re.compile(r"-(?<!--)-(?!-)|–")
_SPACED_DASH = re.compile(r" (?<=\S ) *+(—+) ++(?=\S)")
_BLANK_LINES = re.compile(r"\n{3,}")


def normalise(text: str) -> str:
    """The text in this module's convention. No letter, digit or accent is touched; a second pass changes nothing."""
    text = _SPELLED_ANEW.sub(lambda found: _SPELLED[found[0]], text.replace("\r\n", "\n"))
    if "--" in text or "–" in text:  # looking first is several times faster than the patterns, and most texts have none
        text = _DASH.sub("—", _RANGE.sub("-", text))
    if " —" in text:
        text = _SPACED_DASH.sub(r"\1", text)
    if " \n" in text or text.endswith(" "):
        text = "\n".join([line.rstrip(" ") for line in text.split("\n")])
    if "\n\n\n" in text:
        text = _BLANK_LINES.sub("\n\n", text)
    return text.strip("\n")
