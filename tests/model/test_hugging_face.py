"""transformers makes of a saved folder the same model and tokenizer, and its own folders load here."""

import pytest
import torch

from data.layout import END, PROMPT, STORY, prompt_tokens
from model.config import preset
from model.folder import load_folder, save_folder, stage_of

# Full size up to `small`; above that the same widths and heads with fewer layers, so that the test stays quick.
FAMILIES = {"nano": {}, "micro": {}, "small": {}} | {
    name: {"layers": 2} for name in ("medium", "storygpt", "story", "large")
}


@pytest.mark.slow  # it makes and loads models of full width
@pytest.mark.parametrize("name", FAMILIES)
def test_transformers_computes_the_same_logits(name, tmp_path, tok, perturbed):
    from transformers import AutoModelForCausalLM, Qwen3ForCausalLM

    config = preset(name, vocab_size=tok.vocab_size, **FAMILIES[name])
    model = perturbed(config)
    save_folder(tmp_path, model.state_dict(), config, tok, stage="pretrain")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert isinstance(theirs, Qwen3ForCausalLM)
    assert theirs.num_parameters() == config.num_parameters
    ids = torch.randint(0, tok.vocab_size, (2, min(config.context, 160)))
    with torch.no_grad():
        logits = model(ids)
        torch.testing.assert_close(theirs(ids).logits, logits, atol=1e-4, rtol=0)
    assert logits.std() > 0.1  # or equality would say little


def test_transformers_generates_what_the_logits_say(saved, tok):
    from transformers import AutoModelForCausalLM

    model, theirs = load_folder(saved).model, AutoModelForCausalLM.from_pretrained(saved)
    start = torch.tensor([prompt_tokens(tok, tok.encode("The cat"))]).long()
    ids, cache = start, model.new_cache(1)
    with torch.no_grad():
        logits = model(ids, cache=cache)
        for _ in range(10):
            ids = torch.cat((ids, logits[:, -1:].argmax(dim=2)), dim=1)
            logits = model(ids[:, -1:], cache=cache)
    generated = theirs.generate(start, do_sample=False, repetition_penalty=1.0, min_new_tokens=10, max_new_tokens=10,
                                temperature=1.0, min_p=0.0, attention_mask=torch.ones_like(start))  # fmt: skip
    assert generated.tolist() == ids.tolist()


@pytest.mark.parametrize(
    "text", ["The cat sat there.", "cafe\u0301 naïve", f"a{END}b{PROMPT}{STORY}", "  two\n\n lines \t", ""]
)
def test_the_tokenizer_of_transformers_gives_the_same_ids(text, saved, tok):
    from transformers import AutoTokenizer

    theirs = AutoTokenizer.from_pretrained(saved)
    ids = tok.encode(text, allow_special=True)
    assert theirs(text)["input_ids"] == ids
    assert theirs.decode(ids) == text
    assert len(theirs) == tok.vocab_size
    assert {theirs.bos_token_id, theirs.eos_token_id, theirs.pad_token_id} == {tok.special_tokens[END]}


def test_the_chat_template_lays_a_pair_out_as_training_does(saved, tok):
    from transformers import AutoTokenizer

    theirs, prompt, story = AutoTokenizer.from_pretrained(saved), "A cat,\n a hat", " The mat.\n\nIt sat. "
    asked = [{"role": "user", "content": prompt}]
    told = [*asked, {"role": "assistant", "content": story}]
    start = [int(id) for id in prompt_tokens(tok, tok.encode(prompt))]
    assert theirs.apply_chat_template(asked, add_generation_prompt=True, return_dict=False) == start
    pair = [*start, *tok.encode(story), tok.special_tokens[END]]
    assert theirs.apply_chat_template(told, return_dict=False) == pair


def test_a_folder_that_transformers_saved_is_loaded(saved, tok, config, tmp_path):
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(saved).save_pretrained(tmp_path)
    tok.save(tmp_path / "tokenizer.json")
    ours, theirs = load_folder(saved).model, load_folder(tmp_path).model
    assert theirs.config == config
    ids = torch.arange(20)[None]
    assert torch.equal(ours(ids), theirs(ids))


def test_a_model_that_transformers_made_by_itself_is_loaded(tok, tmp_path):
    from transformers import Qwen3Config, Qwen3ForCausalLM

    theirs = Qwen3ForCausalLM(
        Qwen3Config(
            vocab_size=tok.vocab_size, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
            num_key_value_heads=2, head_dim=16, max_position_embeddings=64, tie_word_embeddings=True,
        )
    ).eval()  # fmt: skip
    theirs.save_pretrained(tmp_path)
    tok.save(tmp_path / "tokenizer.json")
    assert stage_of(tmp_path) is None
    ids = torch.arange(40)[None]
    with torch.no_grad():
        torch.testing.assert_close(load_folder(tmp_path).model(ids), theirs(ids).logits, atol=1e-4, rtol=0)
