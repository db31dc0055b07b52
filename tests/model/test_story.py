"""Laws of writing a story: the cache never changes it, the context never ends it, its pieces are its text."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from bpe import Tokenizer
from data.layout import END, PROMPT, SPECIAL_TOKENS, STORY, max_header
from model import generate
from model.build import LanguageModel, build
from model.config import ModelConfig, preset
from model.context import RecomputedContext
from model.ending import ENDINGS
from model.errors import ConfigError, ModelError
from model.sampling import breaks_of, next_token
from model.story import Story, write_together
from model.story_settings import Sampling

CONTEXT = 24
TEXT = "the ship sank and the man swam to the shore, where the woman held the child; naïve snow ☃ fell — the end. " * 3
TOK = Tokenizer.train([TEXT], vocab_size=300, special_tokens=SPECIAL_TOKENS)


def random_model(kind: str = "qwen3", seed: int = 0) -> LanguageModel:
    """Weights far from zero everywhere, so that every part of the model has a say in every logit."""
    torch.manual_seed(seed)
    sizes = {"layers": 2, "width": 64, "heads": 2, "context": CONTEXT, "vocab_size": TOK.vocab_size}
    config = (
        preset("classic", **sizes, hidden=96)
        if kind == "classic"
        else ModelConfig(**sizes, kv_heads=1, hidden=96, head_size=32)
    )
    model = build(config)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.1)
    return model.eval()


MODELS = {kind: random_model(kind) for kind in ("qwen3", "classic")}
MODEL = MODELS["qwen3"]

prompts = st.one_of(st.text(alphabet="the shipman☃ï—", max_size=60), st.text(max_size=8))
samplings = st.sampled_from(
    [
        Sampling(temperature=0),
        Sampling(),
        Sampling(temperature=2, min_p=0, repeat_penalty=1),
        Sampling(top_k=20, top_p=0.9),
    ]
)


def only_this_comes(model: LanguageModel, token: int) -> LanguageModel:
    """Make the model give `token` the best logit always."""

    def logits(hidden: torch.Tensor) -> torch.Tensor:
        return torch.zeros(*hidden.shape[:-1], TOK.vocab_size).index_fill(-1, torch.tensor([token]), 50.0)

    model.logits = logits
    return model


@pytest.mark.slow  # every story is written three times, once without a cache
@settings(max_examples=10, deadline=None)
@given(
    kind=st.sampled_from(sorted(MODELS)),
    stage=st.sampled_from(["pretrain", "finetune"]),
    prompts=st.lists(prompts, min_size=1, max_size=4),
    sampling=samplings,
    seed=st.integers(0, 2**63 - 9),
    at_once=st.integers(1, 4),
    data=st.data(),
)
def test_a_story_is_the_same_alone_together_and_read_anew_for_every_token(
    kind, stage, prompts, sampling, seed, at_once, data
):
    """Some go on until the context was full twice; each ends at a time of its own."""
    limits = data.draw(st.lists(st.integers(1, 2 * CONTEXT), min_size=len(prompts), max_size=len(prompts)))

    def stories() -> list[Story]:
        return [
            Story(
                MODELS[kind], TOK, prompt, sampling=sampling, max_tokens=limit, ending="cut", seed=seed + i, stage=stage
            )
            for i, (prompt, limit) in enumerate(zip(prompts, limits, strict=True))
        ]

    together, alone, recomputed = stories(), stories(), stories()
    pieces: list[list[str]] = [[] for _ in together]
    for i, piece in write_together(together, at_once=at_once):
        pieces[i].append(piece)
    assert pieces == [list(story) for story in alone]
    list(write_together(recomputed, RecomputedContext))
    for one, other, slow in zip(together, alone, recomputed, strict=True):
        assert one.tokens == other.tokens == slow.tokens
        assert one.text == other.text == slow.text
        assert one.stopped == other.stopped == slow.stopped is not None


def test_stories_begin_in_their_order_and_come_as_they_are_written():
    stories = [Story(MODEL, TOK, "the man", max_tokens=8, ending="cut", seed=i, stage="pretrain") for i in range(5)]
    order = [i for i, _ in write_together(stories, at_once=2)]
    assert order[:2] == [0, 1]
    assert list(dict.fromkeys(order)) == [0, 1, 2, 3, 4]
    assert [i for i in order if i < 2][:3] == [0, 1, 0]  # by turns, not one after the other


@settings(max_examples=20, deadline=None)
@given(
    prompt=prompts,
    sampling=samplings,
    seed=st.integers(0, 99),
    stage=st.sampled_from(["pretrain", "finetune"]),
    ending=st.sampled_from(ENDINGS),
)
def test_the_pieces_joined_are_the_story_and_hold_no_special_token(prompt, sampling, seed, stage, ending):
    story = Story(MODEL, TOK, prompt, sampling=sampling, max_tokens=40, ending=ending, seed=seed, stage=stage)
    pieces = list(story)
    assert all(pieces)
    assert "".join(pieces) == story.text
    assert whole_characters(TOK.decode_bytes(story.tokens)).startswith(story.text.removeprefix(story.beginning))
    assert not {TOK.special_tokens[name] for name in SPECIAL_TOKENS} & set(story.tokens)
    assert 1 <= len(story.tokens) <= story.closing.most
    if ending == "cut":
        assert whole_characters(TOK.decode_bytes(story.tokens)) == story.text.removeprefix(story.beginning)
        assert (story.stopped == "length") == (len(story.tokens) == 40)


def whole_characters(text: bytes) -> str:
    """The text of the bytes, without those that make no character."""
    return text.decode(errors="ignore")


@pytest.mark.parametrize(
    ("ending", "text"), [("cut", "the ship. The ma"), ("trim", "the ship."), ("finish", "the ship. The man swam.")]
)
def test_a_story_at_its_limit_ends_as_its_ending_says_and_has_the_tokens_of_its_text(ending, text):
    story = scripted("the ship. The man swam. The sea", max_tokens=16, ending=ending)
    assert "".join(story) == story.text == TOK.decode(story.tokens) == text
    assert story.stopped == "length"


def test_a_story_that_is_gone_on_with_knows_what_was_written_and_does_not_write_it_again():
    whole = Story(MODEL, TOK, "the man", sampling=Sampling(temperature=0, dry=0), max_tokens=24, ending="cut", seed=0)
    list(whole)
    at = next(i for i in range(8, 16) if TOK.encode(TOK.decode(whole.tokens[:i])) == whole.tokens[:i])
    rest = Story(
        MODEL,
        TOK,
        "the man",
        so_far=TOK.decode(whole.tokens[:at]),
        sampling=Sampling(temperature=0, dry=0),
        max_tokens=24 - at,
        ending="cut",
        seed=0,
    )
    assert "".join(rest) == rest.text == whole_characters(TOK.decode_bytes(whole.tokens[at:]))


def test_loops_are_looked_for_in_all_of_the_story_and_not_across_its_marks(monkeypatch):
    seen = []

    def noted(logits, recent, *rest, breaks, **options):
        seen.append((recent, breaks))
        return next_token(logits, recent, *rest, breaks=breaks, **options)

    monkeypatch.setattr("model.story.next_token", noted)
    story = Story(MODEL, TOK, "the man", so_far="the ship sank", max_tokens=5, ending="cut", seed=1)
    list(story)
    assert seen[-1] == ([*TOK.encode("the ship sank"), *story.tokens[:-1]], breaks_of(TOK))


def test_a_pretrained_model_goes_on_with_what_was_written_prompt_and_all():
    story = Story(MODEL, TOK, "the man", so_far="the man swam", stage="pretrain", max_tokens=5, seed=1)
    assert story.start == [TOK.special_tokens[END]]
    assert story.given == TOK.encode("the man swam")
    assert not "".join(story).startswith("the man")


def scripted(text: str, **options) -> Story:
    """A story whose model wants the text, byte by byte, then the end."""
    return scripted_bytes(text.encode(), **options)


def scripted_bytes(text: bytes, **options) -> Story:
    script = iter([*text, TOK.special_tokens[END]])
    model = random_model()
    model.logits = lambda hidden: torch.zeros(1, TOK.vocab_size).index_fill(-1, torch.tensor([next(script)]), 1.0)
    return Story(model, TOK, "", sampling=Sampling(temperature=0), seed=0, **options)


def test_a_character_of_several_tokens_comes_as_one_piece():
    story = scripted("☃é")
    assert list(story) == ["☃", "é"]
    assert story.stopped == "end"
    assert story.tokens == list("☃é".encode())


def test_half_a_character_at_the_end_is_left_out():
    model = only_this_comes(random_model(), 0xC3)
    assert list(generate(model, TOK, "", max_tokens=1, ending="cut")) == []


def test_bytes_that_make_no_character_are_not_shown():
    story = scripted_bytes(b"a \xff\xc3ship\x80")
    assert list(story) == [*"a ship"]
    assert len(story.tokens) == 9


def test_generate_gives_the_pieces_of_the_story_with_the_same_settings(monkeypatch):
    options = {"temperature": 1.5, "top_k": 50, "top_p": 0.95, "min_p": 0.01, "repeat_penalty": 1.3, "dry": 0.5}
    story = Story(MODEL, TOK, "the man", sampling=Sampling(**options), max_tokens=30, seed=4, stage="pretrain")
    made = []

    def noted(*given, **more):
        made.append(Story(*given, **more))
        return made[-1]

    monkeypatch.setattr("model.story.Story", noted)
    assert list(generate(MODEL, TOK, "the man", **options, max_tokens=30, seed=4, stage="pretrain")) == list(story)
    assert made[0].sampling == story.sampling


def test_one_seed_is_one_story_and_another_seed_another():
    first, again, other = ("".join(generate(MODEL, TOK, "the man", max_tokens=30, seed=seed)) for seed in (1, 1, 2))
    assert first == again != other


def test_a_seed_chosen_by_chance_is_told_and_repeats_the_story():
    story = Story(MODEL, TOK, "the man", max_tokens=20)
    assert "".join(story) == "".join(generate(MODEL, TOK, "the man", max_tokens=20, seed=story.seed))
    assert story.seed != Story(MODEL, TOK, "the man").seed


def test_a_story_written_again_is_the_same_and_counted_anew():
    story = Story(MODEL, TOK, "the man", max_tokens=20, seed=3)
    assert list(story) == list(story)
    other = Story(MODEL, TOK, "the man", max_tokens=20, seed=3)
    list(other)
    assert (story.tokens, story.text, story.stopped) == (other.tokens, other.text, other.stopped)


def test_a_story_ends_where_the_model_says_so_but_is_never_empty():
    story = Story(only_this_comes(random_model(), TOK.special_tokens[END]), TOK, "the man", seed=0)
    list(story)
    assert story.stopped == "end"
    assert len(story.tokens) == 1


@pytest.mark.parametrize("name", [PROMPT, STORY])
def test_the_tokens_of_the_layout_are_never_written_however_likely(name):
    model = only_this_comes(random_model(), TOK.special_tokens[name])
    story = Story(model, TOK, "the man", max_tokens=9, ending="cut", seed=0)
    list(story)
    assert TOK.special_tokens[name] not in story.tokens
    assert len(story.tokens) == 9


def test_each_stage_is_given_the_prompt_as_in_its_training():
    end, prompt, story = (TOK.special_tokens[name] for name in (END, PROMPT, STORY))
    assert Story(MODEL, TOK, "the ship").start == [end, prompt, *TOK.encode("the ship"), story]
    pretrained = Story(MODEL, TOK, "the ship ", stage="pretrain", max_tokens=5, seed=0)
    assert pretrained.start == [end, *TOK.encode("the ship")]
    assert "".join(pretrained).startswith("the ship")


def test_the_stage_is_the_models_own_unless_said_otherwise():
    model = random_model()
    model.stage = "pretrain"
    assert Story(model, TOK, "the ship").beginning == "the ship"
    assert Story(model, TOK, "the ship", stage="finetune").beginning == ""


def test_a_prompt_is_cleaned_as_the_training_texts_were():
    assert Story(MODEL, TOK, "  “The man’s\n ship”… ").prompt == '"The man\'s ship"...'
    assert Story(MODEL, TOK, "“One”\n\nTwo \n", stage="pretrain").prompt == '"One"\n\nTwo'


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
@pytest.mark.parametrize("name", SPECIAL_TOKENS)
def test_special_tokens_in_a_prompt_are_plain_text(stage, name):
    plain, given_name = (Story(MODEL, TOK, prompt, stage=stage).start for prompt in ("the man", f"the man {name}"))
    special = set(TOK.special_tokens.values())
    assert [token for token in plain if token in special] == [token for token in given_name if token in special]


@pytest.mark.parametrize("stage", ["pretrain", "finetune"])
def test_an_empty_prompt_gives_a_story(stage):
    for prompt in ("", " \n"):
        story = Story(MODEL, TOK, prompt, max_tokens=5, seed=1, stage=stage)
        assert "".join(story) == story.text != ""
        assert not story.prompt_cut


def test_a_prompt_longer_than_the_context_is_shortened_and_said_to_be():
    long = "the man swam " * 20
    finetuned, pretrained = (
        Story(MODEL, TOK, long, max_tokens=30, seed=1, stage=stage) for stage in ("finetune", "pretrain")
    )
    for story in (finetuned, pretrained):
        assert story.prompt_cut
        assert len("".join(story)) > 0
    assert len(finetuned.start) == max_header(CONTEXT)
    assert finetuned.start[-1] == TOK.special_tokens[STORY]
    assert not Story(MODEL, TOK, "the man").prompt_cut


def test_a_model_in_training_writes_without_dropout_and_goes_on_in_training():
    model = random_model()
    expected = "".join(generate(model, TOK, "the man", max_tokens=20, seed=1))
    with_dropout = build(model.config, dropout=0.9)
    with_dropout.load_state_dict(model.state_dict())
    with_dropout.train()
    assert "".join(generate(with_dropout, TOK, "the man", max_tokens=20, seed=1)) == expected
    assert with_dropout.training


@pytest.mark.parametrize("max_tokens", [0, -3])
def test_room_for_no_token_is_refused(max_tokens):
    with pytest.raises(ConfigError, match=f"max-tokens {max_tokens}"):
        generate(MODEL, TOK, "the man", max_tokens=max_tokens)


@pytest.mark.parametrize("seed", [-1, 2**63])
def test_a_seed_that_is_none_is_refused(seed):
    with pytest.raises(ConfigError, match=f"seed {seed}"):
        generate(MODEL, TOK, "the man", seed=seed)


def test_impossible_settings_are_refused_before_anything_is_written():
    with pytest.raises(ConfigError, match="no ending 'stop'; there are finish, trim, cut"):
        generate(MODEL, TOK, "the man", ending="stop")
    with pytest.raises(ConfigError, match="temperature"):
        generate(MODEL, TOK, "the man", temperature=-1)


def test_a_tokenizer_that_is_not_the_models_is_refused():
    with pytest.raises(ModelError, match="has no <|endoftext|>".replace("|", r"\|")):
        generate(MODEL, Tokenizer.train([TEXT], vocab_size=300), "the man")
    with pytest.raises(ModelError, match="290 tokens and the model 300"):
        generate(MODEL, Tokenizer.train([TEXT], vocab_size=290, special_tokens=SPECIAL_TOKENS), "the man")


def test_speech_that_was_open_when_a_story_is_gone_on_with_is_closed():
    story = scripted('. Come in." He left. The', so_far='"I am here', max_tokens=1)
    assert "".join(story) == '. Come in."'
