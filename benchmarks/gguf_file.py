"""A model's folder as a GGUF file, for llama.cpp.

In: the folder that training writes.  Out: one file of float32 weights with the tokenizer, written with the public
`gguf` package; llama.cpp itself makes the smaller ones of it (benchmarks/generation_tasks.py).
"""

import json
from pathlib import Path

import gguf
from safetensors.numpy import load_file

from bpe import Tokenizer
from data.layout import END
from model.config import ModelConfig
from model.folder import CONFIG, TOKENIZER, WEIGHTS
from model.hugging_face import read_config

PRE = "qwen2"  # llama.cpp's name for our default split pattern


def write_gguf(folder: Path, path: Path) -> None:
    """Write the folder's model, of any preset but `classic`, in float32."""
    config = read_config(json.loads((folder / CONFIG).read_text(encoding="utf-8")), folder / CONFIG)
    writer = gguf.GGUFWriter(path, "qwen3")
    _add_shape(writer, config)
    _add_tokenizer(writer, folder / TOKENIZER)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, config.layers)
    for name, weights in load_file(folder / WEIGHTS).items():
        writer.add_tensor(names[name.removesuffix(".weight")] + ".weight", weights.astype("float32"))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def weight_bytes(path: Path) -> int:
    """Bytes of a GGUF file's tensors."""
    return sum(tensor.n_bytes for tensor in gguf.GGUFReader(path).tensors)


def _add_shape(writer: gguf.GGUFWriter, config: ModelConfig) -> None:
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_vocab_size(config.vocab_size)
    writer.add_context_length(config.context)
    writer.add_embedding_length(config.width)
    writer.add_block_count(config.layers)
    writer.add_feed_forward_length(config.hidden)
    writer.add_head_count(config.heads)
    writer.add_head_count_kv(config.kv_heads)
    writer.add_key_length(config.head_size)
    writer.add_value_length(config.head_size)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_freq_base(config.rope_theta)


def _add_tokenizer(writer: gguf.GGUFWriter, path: Path) -> None:
    """tokenizer.json spells tokens and merges as GGUF wants them; where ids end, the special tokens follow."""
    special = Tokenizer.load(path).special_tokens
    model = json.loads(path.read_text(encoding="utf-8"))["model"]
    ids = model["vocab"] | special
    tokens = sorted(ids, key=lambda token: ids[token])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(PRE)
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL for token in tokens])
    writer.add_token_merges([merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]])
    writer.add_bos_token_id(special[END])
    writer.add_eos_token_id(special[END])
    writer.add_add_bos_token(False)
