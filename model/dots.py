"""The sums that every product with a matrix of weights comes down to, in vectors, for each format of weights.

In: a matrix, (outputs, inputs), in one of the formats below, and a few rows of inputs, float32.  Out: their products.

    weights    a weight                         scales, int16, the bits of bfloat16s: (outputs, ...)
    float32    as it is                         none, (outputs, 0)
    uint16     the bits of a float16            none
    int16      the bits of a bfloat16           none
    int8       a level: level x scale           one, (outputs, 1)
    uint8      two levels a byte:               a scale and a zero for each GROUP inputs, (outputs, 2 x groups);
               (level - 8) x scale + zero       the upper half of a group's levels lies in the bytes' upper halves

Memory sets the speed of one row, so weights are asked for long before they are used; many rows share what is spent on
a weight. A compiler left to itself finds other vectors for one row than for several. Here each sum is taken in LANES
partial sums and in one order, whatever is computed beside it: a story is bit for bit the same alone and among others.
model/products.py and model/quantize.py are the definitions, which the tests hold this to.

It is written in the compiler's own language, as numba has no vectors: `multiply` is a loop like others, but what it
calls runs while that is compiled, and each `builder....` writes one instruction. A loop of Python's is so many copies
of what is in it; one of the machine's is `for_range_slice`. `index` is the type of places; it makes constants.
"""

from collections.abc import Iterator
from platform import machine
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import prange
from numba.core import cgutils, types
from numpy.typing import NDArray

from model.loops import compiled_as_written, instruction
from model.products import GROUP, Floats

# rows of x that share what is spent on a weight; where vectors are short, there are registers for SOME
MANY, SOME = 8 if get_host_cpu_features().get("avx512f") else 4, 4
LANES = 16  # float32 in a vector; where the machine's are shorter it takes several
OUTPUTS = 2  # rows of weights at a time: they share what is loaded of x
AHEAD = 8192  # bytes: to ask for what is needed so much later makes half as fast again, and more
LINE = 64  # bytes that memory gives at once

BYTE, HALF, FLOAT = ir.IntType(8), ir.HalfType(), ir.FloatType()
SHORT, WHOLE = ir.IntType(16), ir.IntType(32)
FUSED = ("contract",)  # a sum and a product may become one instruction
HAS_HALVES = bool(get_host_cpu_features().get("f16c")) or machine().lower() not in ("x86_64", "amd64")


class InMemory:
    """An array of two dimensions, row behind row, as compiled code sees it."""

    def __init__(self, context: Any, builder: Any, kind: Any, value: Any) -> None:
        array = context.make_array(kind)(context, builder, value)
        self.builder, self.dtype = builder, kind.dtype
        self.rows, self.columns = (builder.extract_value(array.shape, i) for i in range(2))
        self.itemsize = context.get_abi_sizeof(context.get_data_type(kind.dtype))
        self.start = builder.bitcast(array.data, BYTE.as_pointer())

    def place(self, row: Any, column: Any) -> Any:
        """The address of a number."""
        item = self.builder.add(self.builder.mul(row, self.columns), column)
        return self.builder.gep(self.start, [self.builder.mul(item, item.type(self.itemsize))])


@instruction
def dots(context: Any, product: Any, weights: Any, scales: Any, output: Any, x: Any, row: Any, rows: Any) -> Any:
    """Write the products of OUTPUTS outputs, from `output` on, with some rows of x, from `row` on, where they belong.

    product: (rows of x, outputs); x: (rows of x, inputs). rows: a constant. Beyond the last output it is written again.
    """
    kinds = product, weights, scales, x

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        products, matrix, parameters, inputs = (
            InMemory(context, builder, kind, args[i]) for kind, i in zip(kinds, (0, 1, 2, 4), strict=True)
        )
        index = args[3].type
        last = builder.sub(matrix.rows, index(1))
        outputs = [builder.add(args[3], index(i)) for i in range(OUTPUTS)]
        outputs = [builder.select(builder.icmp_signed("<", one, last), one, last) for one in outputs]
        among = [builder.add(args[5], index(i)) for i in range(rows.literal_value)]
        totals = sums(builder, matrix, parameters, outputs, inputs, among)
        for (one, story), total in totals:
            if weights.dtype == numba.int8:
                total = builder.fmul(total, bfloat(builder, parameters.place(one, index(0))))
            builder.store(total, builder.bitcast(products.place(story, one), FLOAT.as_pointer()))
        return context.get_dummy_value()

    if any(kind.layout != "C" for kind in kinds):
        raise numba.TypingError("products are taken of arrays that lie row behind row")
    return types.void(product, weights, scales, output, x, row, rows), build


def sums(
    builder: Any, matrix: InMemory, scales: InMemory, outputs: list[Any], x: InMemory, rows: list[Any]
) -> Iterator[tuple[tuple[Any, Any], Any]]:
    """The sum of weights times inputs for every pair of an output and a row."""
    pairs = [(output, row) for output in outputs for row in rows]
    index = x.columns.type
    whole = builder.mul(builder.udiv(x.columns, index(GROUP)), index(GROUP))

    def add(lanes: int, into: list[Any], weights: list[Any], at: Any) -> None:
        """To each pair's sum, weights of every output times the inputs from `at` on."""
        given = [vector(builder, FLOAT, x.place(row, at), lanes) for row in rows]
        for i, (weight, value) in enumerate((weight, value) for weight in weights for value in given):
            builder.store(
                builder.fadd(builder.load(into[i]), builder.fmul(weight, value, flags=FUSED), flags=FUSED), into[i]
            )

    many, single = ([new_sum(builder, lanes) for _ in pairs] for lanes in (LANES, 1))
    with cgutils.for_range_slice(builder, index(0), whole, index(GROUP)) as (at, _):
        groups = [group(builder, matrix, scales, output, at) for output in outputs]
        for part, weights in enumerate(zip(*groups, strict=True)):
            add(LANES, many, list(weights), builder.add(at, index(part * LANES)))
    if matrix.dtype != numba.uint8:
        with cgutils.for_range_slice(builder, whole, x.columns, index(1)) as (at, _):
            add(1, single, [widened(builder, matrix.dtype, matrix.place(output, at), 1) for output in outputs], at)
    total = intrinsic_of(builder, f"llvm.vector.reduce.fadd.v{LANES}f32", FLOAT, [FLOAT, ir.VectorType(FLOAT, LANES)])
    for pair, lanes, rest in zip(pairs, many, single, strict=True):
        alone = builder.extract_element(builder.load(rest), WHOLE(0))
        yield pair, builder.call(total, [alone, builder.load(lanes)], fastmath=("reassoc",))


def group(builder: Any, matrix: InMemory, scales: InMemory, output: Any, at: Any) -> list[Any]:
    """GROUP weights of an output, from input `at` on, in vectors; what lies AHEAD of them is asked for."""
    index = at.type
    two_a_byte = matrix.dtype == numba.uint8
    start = matrix.place(output, builder.udiv(at, index(2)) if two_a_byte else at)
    size = GROUP // 2 if two_a_byte else GROUP * matrix.itemsize
    fetch = intrinsic_of(builder, "llvm.prefetch.p0", ir.VoidType(), [start.type, WHOLE, WHOLE, WHOLE])
    for byte in range(0, size, LINE):  # of levels in 4 bits every line twice, which costs nothing
        line = builder.gep(start, [index(AHEAD + byte)])
        builder.call(fetch, [line, *(WHOLE(option) for option in (0, 3, 1))])  # to read, to stay, data
    step = LANES * matrix.itemsize
    places = [builder.gep(start, [index(byte)]) for byte in range(0, size, step)]
    if not two_a_byte:
        return [widened(builder, matrix.dtype, place, LANES) for place in places]
    first = builder.udiv(at, index(GROUP // 2))  # 2 x the group's number
    scale, zero = (bfloat(builder, scales.place(output, builder.add(first, index(i)))) for i in range(2))
    least = builder.fsub(zero, builder.fmul(scale, FLOAT(8.0)))
    both = [builder.zext(vector(builder, BYTE, place, LANES), ir.VectorType(WHOLE, LANES)) for place in places]
    halves = [builder.and_(one, constant_in_lanes(WHOLE(15), LANES)) for one in both]
    halves += [builder.lshr(one, constant_in_lanes(WHOLE(4), LANES)) for one in both]
    floats = [builder.uitofp(one, ir.VectorType(FLOAT, LANES)) for one in halves]
    factor, offset = (number_in_lanes(builder, value) for value in (scale, least))
    return [builder.fadd(builder.fmul(value, factor, flags=FUSED), offset, flags=FUSED) for value in floats]


def widened(builder: Any, dtype: Any, place: Any, lanes: int) -> Any:
    """So many weights from there on, as a vector of float32; a level as it is."""
    floats = ir.VectorType(FLOAT, lanes)
    if dtype == numba.float32:
        return vector(builder, FLOAT, place, lanes)
    if dtype == numba.uint16:
        if HAS_HALVES:
            return builder.fpext(vector(builder, HALF, place, lanes), floats)
        return widened_halves(builder, vector(builder, SHORT, place, lanes), lanes)
    if dtype == numba.int16:
        wide = builder.zext(vector(builder, SHORT, place, lanes), ir.VectorType(WHOLE, lanes))
        return builder.bitcast(builder.shl(wide, constant_in_lanes(WHOLE(16), lanes)), floats)
    return builder.sitofp(vector(builder, BYTE, place, lanes), floats)


def widened_halves(builder: Any, bits: Any, lanes: int) -> Any:
    """The float32 of float16s, by their bits, on a processor without an instruction for it; not of infinities."""
    wide = builder.zext(bits, ir.VectorType(WHOLE, lanes))
    shifted = builder.shl(
        builder.and_(wide, constant_in_lanes(WHOLE(0x7FFF), lanes)), constant_in_lanes(WHOLE(13), lanes)
    )
    size = builder.fmul(
        builder.bitcast(shifted, ir.VectorType(FLOAT, lanes)), constant_in_lanes(FLOAT(2.0**112), lanes)
    )  # float32's exponent counts from 112 lower
    sign = builder.shl(builder.and_(wide, constant_in_lanes(WHOLE(0x8000), lanes)), constant_in_lanes(WHOLE(16), lanes))
    return builder.bitcast(builder.or_(builder.bitcast(size, sign.type), sign), size.type)


def bfloat(builder: Any, place: Any) -> Any:
    """The bfloat16 there, as a float32."""
    return builder.extract_element(widened(builder, numba.int16, place, 1), WHOLE(0))


def vector(builder: Any, kind: Any, place: Any, lanes: int) -> Any:
    """So many numbers of a kind from there on; they may lie anywhere."""
    return builder.load(builder.bitcast(place, ir.VectorType(kind, lanes).as_pointer()), align=1)


def constant_in_lanes(constant: Any, lanes: int) -> Any:
    """A constant in every lane."""
    return ir.Constant(ir.VectorType(constant.type, lanes), [constant.constant] * lanes)


def number_in_lanes(builder: Any, value: Any) -> Any:
    """A number in every one of LANES lanes."""
    kind = ir.VectorType(value.type, LANES)
    alone = builder.insert_element(ir.Constant(kind, ir.Undefined), value, WHOLE(0))
    return builder.shuffle_vector(alone, alone, constant_in_lanes(WHOLE(0), LANES))


def new_sum(builder: Any, lanes: int) -> Any:
    """Room for a sum, which is 0."""
    return cgutils.alloca_once_value(builder, constant_in_lanes(FLOAT(0.0), lanes))  # type: ignore[no-untyped-call]


def intrinsic_of(builder: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """A function that the compiler has built in."""
    return builder.module.globals.get(name) or ir.Function(builder.module, ir.FunctionType(result, arguments), name)


@instruction
def inputs_of(context: Any, weights: Any) -> Any:
    """How many inputs a matrix has."""
    each = 2 if weights.dtype == numba.uint8 else 1

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        columns = InMemory(context, builder, weights, args[0]).columns
        return builder.mul(columns, columns.type(each))

    return types.intp(weights), build


@compiled_as_written
def multiply(weights: NDArray[Any], scales: NDArray[np.int16], x: Floats) -> Floats:
    """x (rows, inputs), and a matrix (outputs, inputs), as its format has it -> (rows, outputs).

    Raises ValueError where they differ in their inputs.
    """
    rows, outputs = len(x), len(weights)
    if x.shape[1] != inputs_of(weights):
        raise ValueError("x and weights differ in their inputs")
    product = np.empty((rows, outputs), dtype=np.float32)
    many, some = rows - rows % MANY, rows - rows % SOME
    for part in prange((outputs + OUTPUTS - 1) // OUTPUTS):
        for row in range(0, many, MANY):
            dots(product, weights, scales, OUTPUTS * part, x, row, MANY)
        for row in range(many, some, SOME):
            dots(product, weights, scales, OUTPUTS * part, x, row, SOME)
        for row in range(some, rows):
            dots(product, weights, scales, OUTPUTS * part, x, row, 1)
    return product
