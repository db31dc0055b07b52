"""Laws of detokenising: ordinary spelling comes back, and ordinary spelling stays."""

import re

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from data.detokenise import detokenise


def treebank(text: str) -> str:
    """Take a text apart as the data set's tokenizer did: NLTK's word_tokenize in outline."""
    text = re.sub(r'(^|[ (])"', r"\1`` ", text)
    text = text.replace('"', " '' ")
    text = re.sub(r"([.,!?;:]+)(?= |$)", r" \1 ", text)
    text = re.sub(r"([()$])", r" \1 ", text)
    text = re.sub(r"(?<=\w)(n't|'(?:s|re|ve|ll|m|d))\b", r" \1", text)
    text = re.sub(r"\b(gon|wan)(na)\b|\b(got)(ta)\b", r"\1\3 \2\4", text)
    return " ".join(text.split())


WORDS = "the a fox ran I'm don't it's they'll gonna gotta well-known O'Brien dogs' $5 we'd 1,000 Mr"
words = st.sampled_from(WORDS.split())
phrase = st.lists(words, min_size=1, max_size=6).map(" ".join)
clause = st.one_of(phrase, phrase.map(lambda p: f"({p})"), phrase.map(lambda p: f'"{p}"'))
spoken = st.tuples(phrase, st.sampled_from(",.?!"), phrase).map(lambda parts: f'"{parts[0]}{parts[1]}" {parts[2]}')
sentence = st.tuples(
    st.lists(st.one_of(clause, spoken), min_size=1, max_size=3), st.sampled_from([".", "!", "?", "..."])
)
ordinary = st.lists(sentence.map(lambda s: ", ".join(s[0]) + s[1]), min_size=1, max_size=3).map(" ".join)


@example("$5...")
@settings(max_examples=200)
@given(ordinary)
def test_detokenising_undoes_the_tokenizer(text: str) -> None:
    tokenised = treebank(text)
    assume(tokenised.replace(" ...", "") != text.replace("...", ""))  # dots after a blank are ordinary spelling, too
    assert detokenise(tokenised) == text


@settings(max_examples=200)
@given(ordinary)
def test_ordinary_spelling_stays_as_it_is(text: str) -> None:
    assert detokenise(text) == text


@pytest.mark.parametrize("text", ["You can not  stop ... me", "  indented", "100 % of it", "rock 'n' roll"])
def test_a_text_without_a_sign_is_not_even_tidied(text: str) -> None:
    assert detokenise(text) == text


@pytest.mark.parametrize(
    ("tokenised", "ordinary"),
    [
        ("`` Ca n't you see ? '' he said .", '"Can\'t you see?" he said.'),
        ("`` I do n't know,'' she said. `` Honey, I'm home!''", '"I don\'t know," she said. "Honey, I\'m home!"'),
        ("a card that said''For you.'' inside", 'a card that said "For you." inside'),
        (
            "what I call'my life'. Sorry. Not Norse.'Northman'. ``",
            "what I call 'my life'. Sorry. Not Norse. 'Northman'.\"",
        ),
        ("It 's gon na rain , you got ta go -LRB- now -RRB- .", "It's gonna rain, you gotta go (now)."),
        ("In the darkness , 'shadows ' are free .", "In the darkness, 'shadows' are free."),
        ('" I \' m here , " he said . " Don \' t go "', '"I\'m here," he said. "Don\'t go"'),
        ("was a letter with $ 5000 ( in cash ) , rule # 1", "was a letter with $5000 (in cash), rule #1"),
        ("they suspect ... and run , though", "they suspect... and run, though"),
        ('`` Wait , he said . "Now" , it \'s late .', '"Wait, he said. "Now", it\'s late.'),
        ("first line ,\n`` second ''", 'first line,\n"second"'),
    ],
)
def test_each_mark_of_tokenised_spelling_is_undone(tokenised: str, ordinary: str) -> None:
    assert detokenise(tokenised) == ordinary
    assert detokenise(ordinary) == ordinary
