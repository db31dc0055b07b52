"""Showing how a text is cut into tokens.

In: a tokenizer and a text.  Out: lines for a terminal (colours) or for anything else (brackets).
"""

from bpe.tokenizer import Tokenizer

BACKGROUNDS = (153, 223, 157, 219, 229)  # of the terminal's 256 colours: light ones, under black letters


def shown_tokens(tok: Tokenizer, text: str, *, colour: bool) -> str:
    """The text cut into its tokens, each line followed by the ids of its tokens, and last a line of counts.

    A token within a character is shown as its bytes, <e2>; a line end as ⏎. With `colour`, neighbouring tokens have
    different backgrounds and their ids the same ones; without, each token stands in brackets.
    """
    lines: list[list[tuple[str, int]]] = [[]]
    ids = tok.encode(text)
    for id in ids:
        token = tok.decode_bytes([id])
        lines[-1].append((_visible(token), id))
        if token.endswith(b"\n"):
            lines.append([])
    shown = [half for line in lines if line for half in _line(line, colour)]
    size = len(text.encode())
    ratio = f", {size / len(ids):.2f} bytes a token" if ids else ""
    return "\n".join([*shown, f"{len(ids):,} tokens, {size:,} bytes{ratio}"])


def _line(tokens: list[tuple[str, int]], colour: bool) -> tuple[str, str]:
    """One line of tokens and the line of their ids."""
    if not colour:
        return "".join(f"[{token}]" for token, _ in tokens), "  " + " ".join(str(id) for _, id in tokens)
    paints = [f"\x1b[30;48;5;{BACKGROUNDS[place % len(BACKGROUNDS)]}m{{}}\x1b[0m" for place in range(len(tokens))]
    painted = "".join(paint.format(token) for paint, (token, _) in zip(paints, tokens, strict=True))
    return painted, "  " + " ".join(paint.format(id) for paint, (_, id) in zip(paints, tokens, strict=True))


def _visible(token: bytes) -> str:
    """A token as text that does nothing to a terminal."""
    try:
        text = token.decode()
    except UnicodeDecodeError:
        return "".join(f"<{byte:02x}>" for byte in token)
    text = text.replace("\n", "⏎").replace("\t", "→")
    return "".join(letter if letter.isprintable() else f"<{letter.encode().hex()}>" for letter in text)
