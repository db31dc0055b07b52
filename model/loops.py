"""What writing one token more computes, as loops that numba compiles: products with few rows, and what lies between.

In: NumPy arrays, float32 but for weights; few rows, one for each story that is written.  Out: the same.

A token costs one pass over all weights, so the loops for products ask memory for weights long before they use them.
Between two products of one row lie a few hundred numbers; torch spends more time on being called for them, some thirty
times a block, than on computing, and a loop does a whole stretch in one call. model/products.py, model/quantize.py and
model/fused.py have the definitions, which the tests hold the loops to. numba takes seconds for a loop, once: what it
compiled it keeps beside this file, or below the user's home.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, TypeVar, cast

import numba
import numpy as np
from llvmlite import ir
from numba import prange
from numba.core import event
from numba.core.caching import FunctionCache
from numba.extending import intrinsic
from numpy.typing import NDArray

from model.products import Floats

Loop = TypeVar("Loop", bound=Callable[..., Any])

LINE = 64  # bytes that memory gives at once
AHEAD = 8192  # bytes: to ask for what is needed so much later makes twice as fast
SECTION = 320  # inputs: more lines than these hold are not fetched at once
LEVELS = 2047  # of a row on either side of 0, where their products with int8 still add up in 32 bits

MOST_THREADS = numba.get_num_threads()  # that numba has made room for


def take_threads(threads: int) -> None:
    """How many the loops take that are called from this thread."""
    numba.set_num_threads(min(threads, MOST_THREADS))


def instruction(build: Callable[..., Any]) -> Any:
    """What calls in a loop are compiled to; the first argument of `build` is numba's."""
    return intrinsic(build)


def compiled(loop: Loop) -> Loop:
    """The loop, compiled when it is first called. Sums are taken in any order; `prange` is shared by all threads."""
    in_parallel = "prange" in loop.__code__.co_names
    fast: Any = numba.njit(parallel=in_parallel, fastmath={"reassoc", "contract", "nsz"}, error_model="numpy")(loop)
    with suppress(RuntimeError):  # there is no folder to keep it in
        fast._cache = _Cache(loop)  # type: ignore[no-untyped-call]
    return cast(Loop, fast)


class _Cache(FunctionCache):
    """Where numba keeps what it compiled; on a full disk it does without."""

    def save_overload(self, signature: Any, overload: Any) -> None:
        """Keep what was compiled for arguments of these types, where there is room."""
        with suppress(OSError):
            super().save_overload(signature, overload)  # type: ignore[no-untyped-call]


class _First(event.Listener):
    """Calls `tell` for the first event that starts."""

    def __init__(self, tell: Callable[[], None]) -> None:
        self.tell = tell

    def on_start(self, event: Any) -> None:
        self.tell()
        self.tell = lambda: None

    def on_end(self, event: Any) -> None:
        pass


@contextmanager
def when_compiling(tell: Callable[[], None]) -> Iterator[None]:
    """Call `tell` once, as the first loop is compiled in the block that was not kept."""
    with event.install_listener("numba:compile", _First(tell)):
        yield


@instruction
def widened(context: Any, number: Any) -> Any:
    """The float32 that bits stand for: of a float16, given as uint16, or of a bfloat16, as int16."""

    def from_half(context: Any, build: Any, signature: Any, args: Any) -> Any:
        return build.fpext(build.bitcast(args[0], ir.HalfType()), ir.FloatType())

    def from_upper_half(context: Any, build: Any, signature: Any, args: Any) -> Any:
        whole = ir.IntType(32)
        return build.bitcast(build.shl(build.zext(args[0], whole), ir.Constant(whole, 16)), ir.FloatType())

    return numba.float32(number), {numba.uint16: from_half, numba.int16: from_upper_half}[number]


@instruction
def add_product(context: Any, total: Any, a: Any, b: Any) -> Any:
    """total + a * b of int32, where numba would go over to int64."""
    return numba.int32(numba.int32, numba.int32, numba.int32), lambda _, build, __, args: build.add(
        args[0], build.mul(args[1], args[2])
    )


@instruction
def fetch(context: Any, array: Any, byte: Any) -> Any:
    """Ask for the line of memory that far from an array's start; it is not waited for, and need not be there."""

    def build(context: Any, build: Any, signature: Any, args: Any) -> Any:
        size, start = ir.IntType(32), context.make_array(signature.args[0])(context, build, args[0]).data
        line = build.gep(build.bitcast(start, ir.IntType(8).as_pointer()), [args[1]])
        kind = ir.FunctionType(ir.VoidType(), [line.type, size, size, size])
        name = "llvm.prefetch.p0"
        function = build.module.globals.get(name) or ir.Function(build.module, kind, name)
        build.call(function, [line, *(ir.Constant(size, option) for option in (0, 3, 1))])  # to read, to stay, data
        return context.get_dummy_value()

    return numba.void(array, numba.intp), build


@compiled
def fetch_ahead(matrix: NDArray[Any], row: int, start: int, stop: int) -> None:
    """Ask for what lies AHEAD bytes behind a part of a row."""
    first = row * matrix.shape[1] * matrix.itemsize + AHEAD
    for byte in range(first + start * matrix.itemsize, first + stop * matrix.itemsize, LINE):
        fetch(matrix, byte)


@compiled
def multiply(weight: NDArray[Any], x: Floats) -> Floats:
    """x (rows, inputs), weight (outputs, inputs) -> (rows, outputs). weight: bits that can be `widened`.

    Four rows at a time share the widening of a weight.
    """
    rows, inputs = x.shape
    if inputs != weight.shape[1]:
        raise ValueError("x and weight differ in their inputs")
    in_fours = rows - rows % 4
    product = np.zeros((rows, len(weight)), dtype=np.float32)
    for output in prange(len(weight)):
        for start in range(0, inputs, SECTION):
            stop = min(start + SECTION, inputs)
            fetch_ahead(weight, output, start, stop)
            channel = weight[output, start:stop]
            for row in range(0, in_fours, 4):
                x0, x1 = x[row, start:stop], x[row + 1, start:stop]
                x2, x3 = x[row + 2, start:stop], x[row + 3, start:stop]
                sum0 = sum1 = sum2 = sum3 = np.float32(0)
                for i in range(len(channel)):
                    value = widened(channel[i])
                    sum0 += value * x0[i]
                    sum1 += value * x1[i]
                    sum2 += value * x2[i]
                    sum3 += value * x3[i]
                product[row, output] += sum0
                product[row + 1, output] += sum1
                product[row + 2, output] += sum2
                product[row + 3, output] += sum3
            for row in range(in_fours, rows):
                x0, sum0 = x[row, start:stop], np.float32(0)
                for i in range(len(channel)):
                    sum0 += widened(channel[i]) * x0[i]
                product[row, output] += sum0
    return product


@compiled
def multiply_int8(weight: NDArray[np.int8], scales: NDArray[np.int16], x: Floats) -> Floats:
    """x (rows, inputs), weight (outputs, inputs) in levels of scales (outputs,), bits of bfloat16 -> (rows, outputs).

    Each row of x is rounded, too, to LEVELS steps of its largest number: whole numbers multiply several times faster.
    It is rounded by itself, so that what it is together with changes no bit of its product.
    """
    rows, inputs = x.shape
    if inputs != weight.shape[1]:
        raise ValueError("x and weight differ in their inputs")
    levels = min(LEVELS, (2**31 - 1) // (127 * inputs))
    whole, steps = np.zeros((rows, inputs), dtype=np.int16), np.zeros(rows, dtype=np.float32)
    for row in range(rows):
        steps[row] = np.abs(x[row]).max() / np.float32(levels)
        for i in range(inputs if steps[row] else 0):
            whole[row, i] = np.rint(x[row, i] / steps[row])
    product = np.empty((rows, len(weight)), dtype=np.float32)
    for output in prange(len(weight)):
        fetch_ahead(weight, output, 0, inputs)  # a row of bytes is short enough
        channel = weight[output]
        for row in range(rows):
            numbers, total = whole[row], np.int32(0)
            for i in range(inputs):
                total = add_product(total, np.int32(channel[i]), np.int32(numbers[i]))
            product[row, output] = np.float32(total) * widened(scales[output]) * steps[row]
    return product


@compiled
def add_and_norm(x: Floats, added: Floats, weight: Floats, least: Floats) -> Floats:
    """Add to x, in place, and return its norm by way of the length, as FusedNorm has it. x, added: (rows, width)."""
    normed = np.empty_like(x)
    for row in range(len(x)):
        squares = least[()] * least[()]
        for i in range(x.shape[1]):
            x[row, i] += added[row, i]
            squares += x[row, i] * x[row, i]
        scale = np.float32(1) / np.sqrt(squares)
        for i in range(x.shape[1]):
            normed[row, i] = x[row, i] * scale * weight[i]
    return normed


@compiled
def gated(gate_up: Floats) -> Floats:
    """silu of the left half times the right half: (rows, 2 x hidden) -> (rows, hidden)."""
    rows, hidden = len(gate_up), gate_up.shape[1] // 2
    product = np.empty((rows, hidden), dtype=np.float32)
    for i in prange(rows * hidden):
        row, channel = i // hidden, i % hidden
        gate = gate_up[row, channel]
        product[row, channel] = gate / (np.float32(1) + np.exp(-gate)) * gate_up[row, hidden + channel]
    return product


@compiled
def turn(head: Floats, weight: Floats, least: float, cos: Floats, sin: Floats) -> None:
    """Norm a head, (head_size,), by way of its length, and rotate it by its place's angles; in place."""
    half = len(cos)
    squares = least * least
    for i in range(len(head)):
        squares += head[i] * head[i]
    scale = np.float32(1) / np.sqrt(squares)
    for i in range(half):
        left, right = head[i] * scale * weight[i], head[half + i] * scale * weight[half + i]
        head[i], head[half + i] = left * cos[i] - right * sin[i], right * cos[i] + left * sin[i]


@compiled
def gather(query: Floats, keys: Floats, values: Floats, gathered: Floats) -> None:
    """Attention of one query, (head_size,), to keys and values, (places, head_size); gathered: like query, zeros."""
    scores = np.empty(len(keys), dtype=np.float32)
    scale = np.float32(1) / np.sqrt(np.float32(len(query)))
    for place in range(len(keys)):
        score = np.float32(0)
        for i in range(len(query)):
            score += query[i] * keys[place, i]
        scores[place] = score * scale
    most, total = scores.max(), np.float32(0)
    for place in range(len(keys)):
        scores[place] = np.exp(scores[place] - most)
        total += scores[place]
    for place in range(len(keys)):
        share = scores[place] / total
        for i in range(len(query)):
            gathered[i] += share * values[place, i]


@compiled
def attend(
    heads: Floats, weight: Floats, least: Floats, cos: Floats, sin: Floats, kept: Floats, places: NDArray[np.int64]
) -> Floats:
    """Norm and turn queries and keys, keep keys and values, and gather: (rows, query heads x head_size).

    heads: queries, keys and values, (rows, heads of all three, head_size); used up. weight, least: of FusedHeadNorm.
    cos, sin: of each row's place, (rows, head_size / 2). kept: a layer of a cache, (rows, 2 x key heads, context,
    head_size). places: of each row's token.
    """
    rows, all_heads, size = heads.shape
    kv_heads = kept.shape[1] // 2
    sharing = all_heads // kv_heads - 2  # queries that share a key
    queries = sharing * kv_heads
    gathered = np.zeros((rows, queries, size), dtype=np.float32)
    for i in prange(rows * kv_heads):
        row, kv = i // kv_heads, i % kv_heads
        key, value, place = queries + kv, queries + kv_heads + kv, places[row]
        turn(heads[row, key], weight[key], least[key, 0], cos[row], sin[row])
        keys, values = kept[row, kv], kept[row, kv_heads + kv]
        keys[place], values[place] = heads[row, key], heads[row, value]
        for query in range(sharing * kv, sharing * (kv + 1)):
            turn(heads[row, query], weight[query], least[query, 0], cos[row], sin[row])
            gather(heads[row, query], keys[: place + 1], values[: place + 1], gathered[row, query])
    return gathered.reshape(rows, queries * size)
