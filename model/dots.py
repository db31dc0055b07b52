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
This is written in the compiler's own language, as numba has no vectors; model/products.py and model/quantize.py are the
definitions, which the tests hold it to.
"""

from collections.abc import Iterator
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import prange
from numba.core import cgutils, types
from numpy.typing import NDArray

from model.loops import compiled, instruction
from model.products import GROUP, Floats

# rows of x that share what is spent on a weight; where vectors are short, there are registers for SOME
MANY, SOME = 8 if get_host_cpu_features().get("avx512f") else 4, 4
LANES = 16  # float32 in a vector; where the machine's are shorter it takes several
OUTPUTS = 2  # rows of weights at a time: they share what is loaded of x
AHEAD = 8192  # bytes: to ask for what is needed so much later makes twice as fast
LINE = 64  # bytes that memory gives at once

BYTE, HALF, FLOAT = ir.IntType(8), ir.HalfType(), ir.FloatType()
SHORT, WHOLE = ir.IntType(16), ir.IntType(32)
FUSED = ("contract",)  # a sum and a product may become one instruction


class Matrix:
    """An array of two dimensions, row behind row, as compiled code sees it."""

    def __init__(self, context: Any, build: Any, kind: Any, value: Any) -> None:
        array = context.make_array(kind)(context, build, value)
        self.build, self.dtype = build, kind.dtype
        self.rows, self.columns = (build.extract_value(array.shape, i) for i in range(2))
        self.itemsize = context.get_abi_sizeof(context.get_data_type(kind.dtype))
        self.start = build.bitcast(array.data, BYTE.as_pointer())

    def place(self, row: Any, column: Any) -> Any:
        """The address of a number."""
        item = self.build.add(self.build.mul(row, self.columns), column)
        return self.build.gep(self.start, [self.build.mul(item, item.type(self.itemsize))])


@instruction
def dots(context: Any, product: Any, weights: Any, scales: Any, output: Any, x: Any, row: Any, rows: Any) -> Any:
    """Write the products of OUTPUTS outputs, from `output` on, with some rows of x, from `row` on, where they belong.

    product: (rows of x, outputs); x: (rows of x, inputs). rows: a constant. Beyond the last output it is written again.
    """
    kinds = product, weights, scales, x

    def build(context: Any, build: Any, signature: Any, args: Any) -> Any:
        products, matrix, parameters, inputs = (
            Matrix(context, build, kind, args[i]) for kind, i in zip(kinds, (0, 1, 2, 4), strict=True)
        )
        index = args[3].type
        last = build.sub(matrix.rows, index(1))
        outputs = [build.add(args[3], index(i)) for i in range(OUTPUTS)]
        outputs = [build.select(build.icmp_signed("<", one, last), one, last) for one in outputs]
        among = [build.add(args[5], index(i)) for i in range(rows.literal_value)]
        totals = sums(build, matrix, parameters, outputs, inputs, among)
        for (one, story), total in totals:
            if weights.dtype == numba.int8:
                total = build.fmul(total, bfloat(build, parameters.place(one, index(0))))
            build.store(total, build.bitcast(products.place(story, one), FLOAT.as_pointer()))
        return context.get_dummy_value()

    if any(kind.layout != "C" for kind in kinds):
        raise numba.TypingError("products are taken of arrays that lie row behind row")
    return types.void(product, weights, scales, output, x, row, rows), build


def sums(
    build: Any, matrix: Matrix, scales: Matrix, outputs: list[Any], x: Matrix, rows: list[Any]
) -> Iterator[tuple[tuple[Any, Any], Any]]:
    """The sum of weights times inputs for every pair of an output and a row."""
    pairs = [(output, row) for output in outputs for row in rows]
    index = x.columns.type
    whole = build.mul(build.udiv(x.columns, index(GROUP)), index(GROUP))

    def add(lanes: int, into: list[Any], weights: list[Any], at: Any) -> None:
        """To each pair's sum, weights of every output times the inputs from `at` on."""
        given = [vector(build, FLOAT, x.place(row, at), lanes) for row in rows]
        for i, (weight, value) in enumerate((weight, value) for weight in weights for value in given):
            build.store(build.fadd(build.load(into[i]), build.fmul(weight, value, FUSED), FUSED), into[i])

    many, single = ([zero_sum(build, lanes) for _ in pairs] for lanes in (LANES, 1))
    with cgutils.for_range_slice(build, index(0), whole, index(GROUP)) as (at, _):
        groups = [group(build, matrix, scales, output, at) for output in outputs]
        for part, weights in enumerate(zip(*groups, strict=True)):
            add(LANES, many, list(weights), build.add(at, index(part * LANES)))
    if matrix.dtype != numba.uint8:
        with cgutils.for_range_slice(build, whole, x.columns, index(1)) as (at, _):
            add(1, single, [number(build, matrix.dtype, matrix.place(output, at), 1) for output in outputs], at)
    total = intrinsic_of(build, f"llvm.vector.reduce.fadd.v{LANES}f32", FLOAT, [FLOAT, ir.VectorType(FLOAT, LANES)])
    for pair, lanes, rest in zip(pairs, many, single, strict=True):
        alone = build.extract_element(build.load(rest), WHOLE(0))
        yield pair, build.call(total, [alone, build.load(lanes)], fastmath=("reassoc",))


def group(build: Any, matrix: Matrix, scales: Matrix, output: Any, at: Any) -> list[Any]:
    """GROUP weights of an output, from input `at` on, in vectors; what lies AHEAD of them is asked for."""
    index = at.type
    in_bytes = matrix.dtype == numba.uint8
    start = matrix.place(output, build.udiv(at, index(2)) if in_bytes else at)
    size = GROUP // 2 if in_bytes else GROUP * matrix.itemsize
    fetch = intrinsic_of(build, "llvm.prefetch.p0", ir.VoidType(), [start.type, WHOLE, WHOLE, WHOLE])
    for byte in range(0, size, LINE):
        line = build.gep(start, [index(AHEAD + byte)])
        build.call(fetch, [line, *(WHOLE(option) for option in (0, 3, 1))])  # to read, to stay, data
    step = LANES * matrix.itemsize
    places = [build.gep(start, [index(byte)]) for byte in range(0, size, step)]
    if not in_bytes:
        return [number(build, matrix.dtype, place, LANES) for place in places]
    first = build.udiv(at, index(GROUP // 2))  # 2 x the group's number
    scale, zero = (bfloat(build, scales.place(output, build.add(first, index(i)))) for i in range(2))
    least = build.fsub(zero, build.fmul(scale, FLOAT(8.0)))
    both = [build.zext(vector(build, BYTE, place, LANES), ir.VectorType(WHOLE, LANES)) for place in places]
    halves = [build.and_(one, every(WHOLE(15), LANES)) for one in both]
    halves += [build.lshr(one, every(WHOLE(4), LANES)) for one in both]
    floats = [build.uitofp(one, ir.VectorType(FLOAT, LANES)) for one in halves]
    factor, offset = (in_every_lane(build, value) for value in (scale, least))
    return [build.fadd(build.fmul(value, factor, FUSED), offset, FUSED) for value in floats]


def number(build: Any, dtype: Any, place: Any, lanes: int) -> Any:
    """So many weights from there on, as a vector of float32; a level as it is."""
    floats = ir.VectorType(FLOAT, lanes)
    if dtype == numba.float32:
        return vector(build, FLOAT, place, lanes)
    if dtype == numba.uint16:
        return build.fpext(vector(build, HALF, place, lanes), floats)
    if dtype == numba.int16:
        wide = build.zext(vector(build, SHORT, place, lanes), ir.VectorType(WHOLE, lanes))
        return build.bitcast(build.shl(wide, every(WHOLE(16), lanes)), floats)
    return build.sitofp(vector(build, BYTE, place, lanes), floats)


def bfloat(build: Any, place: Any) -> Any:
    """The bfloat16 there, as a float32."""
    return build.extract_element(number(build, numba.int16, place, 1), WHOLE(0))


def vector(build: Any, kind: Any, place: Any, lanes: int) -> Any:
    """So many numbers of a kind from there on; they may lie anywhere."""
    return build.load(build.bitcast(place, ir.VectorType(kind, lanes).as_pointer()), align=1)


def every(constant: Any, lanes: int) -> Any:
    """A constant in every lane."""
    return ir.Constant(ir.VectorType(constant.type, lanes), [constant.constant] * lanes)


def in_every_lane(build: Any, value: Any) -> Any:
    """A number in every one of LANES lanes."""
    kind = ir.VectorType(value.type, LANES)
    alone = build.insert_element(ir.Constant(kind, ir.Undefined), value, WHOLE(0))
    return build.shuffle_vector(alone, alone, every(WHOLE(0), LANES))


def zero_sum(build: Any, lanes: int) -> Any:
    """Room for a sum, which is 0."""
    return cgutils.alloca_once_value(build, every(FLOAT(0.0), lanes))  # type: ignore[no-untyped-call]


def intrinsic_of(build: Any, name: str, result: Any, arguments: list[Any]) -> Any:
    """A function that the compiler has built in."""
    return build.module.globals.get(name) or ir.Function(build.module, ir.FunctionType(result, arguments), name)


@instruction
def inputs_of(context: Any, weights: Any) -> Any:
    """How many inputs a matrix has."""
    each = 2 if weights.dtype == numba.uint8 else 1

    def build(context: Any, build: Any, signature: Any, args: Any) -> Any:
        columns = Matrix(context, build, weights, args[0]).columns
        return build.mul(columns, columns.type(each))

    return types.intp(weights), build


@compiled
def multiply(weights: NDArray[Any], scales: NDArray[np.int16], x: Floats) -> Floats:
    """x (rows, inputs), and a matrix (outputs, inputs), as its format has it -> (rows, outputs)."""
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
