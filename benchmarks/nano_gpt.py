"""nanoGPT's recipe, written anew: what most people train a small model with, as a row of benchmarks/training.py.

In: ids of a text, a number of seconds.  Out: a trained model that is scored as ours are.

nanoGPT (github.com/karpathy/nanoGPT) is no package that could be installed and run, so this is a re-implementation of
what it publishes: GPT-2's design (Radford et al. 2019) without biases, AdamW, a short warm-up and a cosine to a tenth,
clipping, rows from random places of one long text, torch.compile. The sizes are those of its README for a small machine
in spirit: 4 layers, a context of 256. Given to it beyond that: our tokenizer, bfloat16 on the CPU (it has float32
there), a schedule that ends with the minutes, and no time spent on evaluation.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bpe.block_encoder import Ids
from model.attention import Cache, positions_of, visible
from model.compiling import can_compile
from model.config import ModelConfig
from model.hardware import matrix_products_in
from model.language_model import LanguageModel

VOCABULARY = 4_096
SHAPE = ModelConfig(
    kind="classic", vocab_size=VOCABULARY, context=256, width=256, layers=4, heads=4, kv_heads=4, hidden=4 * 256
)
ROWS = 16  # of a context each, in one step
STD = 0.02
PEAK = 1e-3  # learning rate
LEAST = PEAK / 10
WARMUP = 100  # steps
BETAS = (0.9, 0.95)
WEIGHT_DECAY = 0.1
CLIP = 1.0


class NanoBlock(nn.Module):
    """Attention, then two layers with a GELU between; each reads the normed stream and adds to the stream itself."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.attention_norm = nn.LayerNorm(config.width, bias=False)
        self.attention = nn.Linear(config.width, 3 * config.width, bias=False)
        self.attention_output = nn.Linear(config.width, config.width, bias=False)
        self.feed_forward_norm = nn.LayerNorm(config.width, bias=False)
        self.up = nn.Linear(config.width, config.hidden, bias=False)
        self.down = nn.Linear(config.hidden, config.width, bias=False)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """x: (batch, time, width). mask: from `visible`. Returns x's shape."""
        parts = self.attention(self.attention_norm(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        queries, keys, values = parts.unbind()
        read = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, is_causal=mask is None)
        x = x + self.attention_output(read.transpose(1, 2).flatten(-2))
        fed: Tensor = self.down(F.gelu(self.up(self.feed_forward_norm(x))))
        return x + fed


class NanoGPT(LanguageModel):
    """The model. Matrices start normal with std 0.02, those that write to the stream by sqrt(2 x layers) smaller."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.tokens = nn.Embedding(config.vocab_size, config.width)  # the output layer, too
        self.positions = nn.Embedding(config.context, config.width)
        self.blocks = nn.ModuleList(NanoBlock(config) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                into_stream = name.endswith(("attention_output.weight", "down.weight"))
                nn.init.normal_(parameter, std=STD / math.sqrt(2 * config.layers) if into_stream else STD)

    def hidden(
        self,
        ids: Tensor,
        *,
        positions: Tensor | None = None,
        segments: Tensor | None = None,
        cache: Cache | None = None,
    ) -> Tensor:
        if cache is not None:
            raise NotImplementedError("it cannot write stories")
        mask = visible(ids, segments, None)
        x = self.tokens(ids) + self.positions(positions_of(ids, positions, None, self.config.context))
        for block in self.blocks:
            x = block(x, mask)
        normed: Tensor = self.norm(x)
        return normed

    def logits(self, hidden: Tensor) -> Tensor:
        return F.linear(hidden, self.tokens.weight).float()

    def loss(self, ids: Tensor, targets: Tensor) -> Tensor:
        """The mean cross-entropy in nats, all logits at once. ids, targets: (batch, time)."""
        return F.cross_entropy(self(ids).flatten(0, 1), targets.flatten())

    def _norm_weight(self) -> Tensor:
        return self.norm.weight


def train_nano_gpt(
    model: NanoGPT, ids: Ids, *, dtype: torch.dtype, seed: int, seconds: float, elapsed: Callable[[], float]
) -> int:
    """Train until `elapsed` says that `seconds` are over; return how many steps that were.

    ids: the whole text, documents set off by <|endoftext|>; longer than a context.
    """
    context, device = model.config.context, model.device
    matrices, others = ([p for p in model.parameters() if (p.ndim == 2) is matrix] for matrix in (True, False))
    groups = [{"params": matrices, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=PEAK, betas=BETAS)
    loss_of = torch.compile(model.loss) if can_compile(model.device) else model.loss
    scaler = torch.amp.GradScaler(device.type, enabled=dtype == torch.float16)
    random = torch.Generator().manual_seed(seed)
    text = torch.from_numpy(ids.astype("int64"))
    step, warm = 0, 0.0
    while (progress := elapsed() / seconds) < 1.0:
        if step == WARMUP:
            warm = progress
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, progress, warm)
        starts = torch.randint(len(text) - context, (ROWS, 1), generator=random)
        rows = text[starts + torch.arange(context + 1)].to(device)
        with matrix_products_in(dtype, device):
            loss = loss_of(rows[:, :-1], rows[:, 1:])
        scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        step += 1
    return step


def learning_rate(step: int, progress: float, warm: float) -> float:
    """A linear rise over WARMUP steps, then a cosine from PEAK to LEAST.

    progress: how much of the time is over, from 0 to 1. warm: how much was over when the rise ended.
    """
    if step < WARMUP:
        return PEAK * (step + 1) / (WARMUP + 1)
    fallen = min(1.0, (progress - warm) / (1.0 - warm))
    return LEAST + (PEAK - LEAST) * (1 + math.cos(math.pi * fallen)) / 2
