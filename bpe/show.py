"""Showing how a text is cut into tokens.

In: a tokenizer and a text.  Out: lines for a terminal (colours) or for anything else (brackets).
"""

from collections.abc import Iterable, Sequence

from bpe.tokenizer import Tokenizer

BACKGROUNDS = (153, 223, 157, 219, 229)  # of the terminal's 256 colours: light ones, under black letters


def shown_tokens(tok: Tokenizer, text: str, *, colour: bool) -> str:
    """The text cut into its tokens, each line followed by the ids of its tokens, and last a line of counts.

    A line end is shown as ⏎ and ends the line; `tokens_in_a_row` says how tokens are shown.
    """
    lines: list[list[int]] = [[]]
    ids = tok.encode(text)
    for id in ids:
        lines[-1].append(id)
        if tok.decode_bytes([id]).endswith(b"\n"):
            lines.append([])
    shown: list[str] = []
    for line in filter(None, lines):
        tokens = [tok.decode_bytes([id]) for id in line]
        shown += [tokens_in_a_row(tokens, colour=colour), "  " + ids_in_a_row(line, colour=colour)]
    size = len(text.encode())
    ratio = f", {size / len(ids):.2f} bytes a token" if ids else ""
    return "\n".join([*shown, f"{number_of(len(ids), 'token')}, {number_of(size, 'byte')}{ratio}"])


def number_of(count: int, thing: str) -> str:
    """How many things, as 1 token or 2 tokens."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def tokens_in_a_row(tokens: Sequence[bytes], *, colour: bool, width: int = 0) -> str:
    """Tokens side by side; filled up with blanks to `width` columns.

    A token within a character is shown as its bytes, <e2>. With `colour`, neighbours have different backgrounds;
    without, each token stands in brackets.
    """
    shown = [_visible(token) if colour else f"[{_visible(token)}]" for token in tokens]
    blanks = " " * (width - sum(map(len, shown)))
    return "".join(_painted(shown) if colour else shown) + blanks


def ids_in_a_row(ids: Iterable[int], *, colour: bool) -> str:
    """Ids with blanks between; with `colour`, each on the background that `tokens_in_a_row` gives its token."""
    shown = map(str, ids)
    return " ".join(_painted(shown) if colour else shown)


def _painted(texts: Iterable[str]) -> list[str]:
    """Each text on a background of its own, black on light."""
    count = len(BACKGROUNDS)
    return [f"\x1b[30;48;5;{BACKGROUNDS[place % count]}m{text}\x1b[0m" for place, text in enumerate(texts)]


def _visible(token: bytes) -> str:
    """A token as text that does nothing to a terminal."""
    try:
        text = token.decode()
    except UnicodeDecodeError:
        return "".join(f"<{byte:02x}>" for byte in token)
    text = text.replace("\n", "⏎").replace("\t", "→")
    return "".join(letter if letter.isprintable() else f"<{letter.encode().hex()}>" for letter in text)
