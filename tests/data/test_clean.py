"""Laws of the one spelling: what normalise never touches, and what it always leaves behind."""

import re
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data.clean import normalise

SPELLED = {
    **dict.fromkeys([*range(0x20), *range(0x7F, 0xA0), *map(ord, "\u00ad\u200b\u200e\u200f\u2060\ufeff")], ""),
    **dict.fromkeys(map(ord, "\n\r\v\f\x85\u2028"), "\n"),
    **dict.fromkeys([*map(ord, "\t\xa0\u1680\u202f\u205f\u3000"), *range(0x2000, 0x200B)], " "),
    **dict.fromkeys(map(ord, "‘’‚‛′´"), "'"),
    **dict.fromkeys(map(ord, "“”„‟″"), '"'),
    **dict.fromkeys(map(ord, "\u2010\u2011\u2012"), "-"),
    ord("\u2015"): "—",
    ord("\u2029"): "\n\n",
    ord("…"): "...",
}


def by_definition(text: str) -> str:
    """The rules one after the other, each as a pattern that says it outright."""
    text = text.replace("\r\n", "\n").translate(SPELLED)
    text = re.sub(r"(?<=\d)(?:--|–)(?=\d)", "-", text)
    text = re.sub(r"(?<!-)--(?!-)|–", "—", text)
    text = re.sub(r"(?<=\S) ++(—+) ++(?=\S)", r"\1", text)
    text = re.sub(r" +(?=\n|\Z)", "", text)
    return re.sub(r"\n{3,}", "\n\n", text).strip("\n")


# Drawn from the characters that the rules are about; arbitrary text hardly ever holds two of them in a row.
troubled = st.text(
    alphabet="ab1 .—–--‒―…“”‘’'\"\n\n\r\t\f\v\u2028\u2029\u00a0\u200b\u00ad\ufeff\x00\x85«»é", max_size=40
)
anything = st.one_of(troubled, st.text(max_size=40))


@settings(max_examples=1000)
@given(anything)
@example("a--1 1--a 1--1 a  --  b")
@example("  — a\n — a")
def test_the_patterns_do_what_the_rules_say(text: str) -> None:
    assert normalise(text) == by_definition(text)


@settings(max_examples=300)
@given(anything)
def test_a_second_pass_changes_nothing(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@settings(max_examples=300)
@given(anything)
def test_letters_digits_and_accents_are_never_touched(text: str) -> None:
    def kept(characters: str) -> list[str]:
        return [character for character in characters if unicodedata.category(character)[0] in "LNM"]

    assert kept(normalise(text)) == kept(text)


@settings(max_examples=300)
@given(anything)
def test_what_comes_out_is_in_the_convention(text: str) -> None:
    out = normalise(text)
    assert not set(out) & set("\r\t\f\v\x00\x85\u2028\u2029\u00a0\u00ad\u200b\ufeff“”‘’…–―")
    assert "\n\n\n" not in out and " \n" not in out
    assert not out.endswith((" ", "\n")) and not out.startswith("\n")


@pytest.mark.parametrize(
    ("written", "spelled"),
    [
        ("word--word", "word—word"),
        ("word -- word – word — word", "word—word—word—word"),
        ("I— I cannot", "I— I cannot"),
        ("— Bonjour", "— Bonjour"),
        ("a twelve - year - old", "a twelve - year - old"),
        ("pages 10–20, 1914--18", "pages 10-20, 1914-18"),
        ("Mr. ---- of ------shire", "Mr. ---- of ------shire"),
        ("---", "---"),
        ("“Don’t,” he said… ‘Why?’", "\"Don't,\" he said... 'Why?'"),
        ("«Oui»", "«Oui»"),
        ("a\r\nb\rc\fd", "a\nb\nc\nd"),
        ("\ufeffa\u00a0b\tc\u00adc\u200b", "a b cc"),
        ("a  \n\n\n\nb\n", "a\n\nb"),
        ("    indented verse\n  more", "    indented verse\n  more"),
    ],
)
def test_each_rule_does_what_the_table_says(written: str, spelled: str) -> None:
    assert normalise(written) == spelled


def test_a_line_of_a_million_blanks_takes_no_more_than_linear_time() -> None:
    assert normalise("a" + " " * 1_000_000 + "b").endswith(" b")
    assert normalise("a" + " " * 1_000_000) == "a"
    assert normalise("a" + " " * 1_000_000 + "b — c").endswith(" b—c")
