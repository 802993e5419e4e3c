"""SHA-256 of two messages at a time, with the processor's own instructions.

One message keeps those instructions waiting for their own results: two go through nearly as fast as one. The
columns of a table are such messages. Where the processor lacks the instructions, `available` says no, and hashlib
does the same work.
Source: FIPS 180-4; the order of the instructions is that of Intel's SHA extensions white paper (2013), chapter 4.
"""

import numpy as np
from llvmlite import binding, ir
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

BLOCK_BYTES = 64
_VECTOR = ir.VectorType(ir.IntType(32), 4)


def _fractions(power: int, count: int) -> list[int]:
    """The first 32 bits of the fractional parts of the primes' roots: FIPS 180-4's constants."""
    primes = [p for p in range(2, 312) if all(p % q for q in range(2, p))][:count]
    found = []
    for prime in primes:
        scaled, low, high = prime << 32 * power, 0, 1 << 40
        while low < high:  # the whole root of prime · 2^(32·power), by bisection
            middle = (low + high + 1) // 2
            low, high = (middle, high) if middle**power <= scaled else (low, middle - 1)
        found.append(low & 0xFFFFFFFF)
    return found


_START = np.array(_fractions(2, 8), dtype=np.uint32)
_ROUNDS = _fractions(3, 64)


def available() -> bool:
    """Whether kernels are compiled for a processor that has the instructions."""
    return bool(
        not config.DISABLE_JIT
        and not config.CPU_NAME
        and not config.CPU_FEATURES
        and binding.get_process_triple().startswith("x86_64")
        and binding.get_host_cpu_features().get("sha", False)
    )


def _shuffle(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, lanes: list[int]) -> ir.Value:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), 4), lanes))


def _call(builder: ir.IRBuilder, name: str, *values: ir.Value) -> ir.Value:
    kind = ir.FunctionType(_VECTOR, [_VECTOR] * len(values))
    return builder.call(cgutils.get_or_insert_function(builder.module, kind, f"llvm.{name}"), values)


def _compress(builder: ir.IRBuilder, states: list[list[ir.Value]], blocks: list[ir.Value]) -> None:
    """One block of each message into its state, (ABEF, CDGH) in two pointers; round by round in turn."""
    held = [[builder.load(p) for p in state] for state in states]
    states_now = [list(pair) for pair in held]
    words = []
    for block in blocks:
        pointer = builder.bitcast(block, _VECTOR.as_pointer())
        loads = [builder.gep(pointer, [ir.Constant(ir.IntType(64), i)]) for i in range(4)]
        words.append([_call(builder, "bswap.v4i32", builder.load(p, align=1)) for p in loads])
    for step in range(16):
        constants = ir.Constant(_VECTOR, _ROUNDS[4 * step : 4 * step + 4])
        for lane, state in enumerate(states_now):
            w = words[lane]
            if step >= 4:
                new = _call(builder, "x86.sha256msg1", w[step - 4], w[step - 3])
                new = builder.add(new, _shuffle(builder, w[step - 2], w[step - 1], [1, 2, 3, 4]))
                w.append(_call(builder, "x86.sha256msg2", new, w[step - 1]))
            message = builder.add(w[step], constants)
            state[1] = _call(builder, "x86.sha256rnds2", state[1], state[0], message)
            message = _shuffle(builder, message, message, [2, 3, 0, 0])
            state[0] = _call(builder, "x86.sha256rnds2", state[0], state[1], message)
    for pointers, before, after in zip(states, held, states_now, strict=True):
        for pointer, old, new in zip(pointers, before, after, strict=True):
            builder.store(builder.add(old, new), pointer)


def _blocks_of(lanes: int):
    """An intrinsic (state addresses…, data addresses…, blocks) → 0 for messages of ``blocks`` whole blocks."""

    def code(_, builder: ir.IRBuilder, signature, arguments):
        addresses, data, count = arguments[:lanes], arguments[lanes : 2 * lanes], arguments[-1]
        memory = [builder.inttoptr(a, _VECTOR.as_pointer()) for a in addresses]
        states = []
        for pointer in memory:
            high = builder.gep(pointer, [ir.Constant(ir.IntType(64), 1)])
            abcd, efgh = builder.load(pointer, align=4), builder.load(high, align=4)
            abef = _shuffle(builder, efgh, abcd, [1, 0, 5, 4])
            cdgh = _shuffle(builder, efgh, abcd, [3, 2, 7, 6])
            states.append([cgutils.alloca_once_value(builder, v) for v in (abef, cdgh)])
        with cgutils.for_range(builder, count) as loop:
            at = builder.mul(loop.index, ir.Constant(loop.index.type, BLOCK_BYTES))
            blocks = [builder.inttoptr(builder.add(d, at), ir.IntType(8).as_pointer()) for d in data]
            _compress(builder, states, blocks)
        for pointer, (abef, cdgh) in zip(memory, states, strict=True):
            high = builder.gep(pointer, [ir.Constant(ir.IntType(64), 1)])
            a, b = builder.load(abef), builder.load(cdgh)
            builder.store(_shuffle(builder, a, b, [3, 2, 7, 6]), pointer, align=4)
            builder.store(_shuffle(builder, a, b, [1, 0, 5, 4]), high, align=4)
        return ir.Constant(ir.IntType(64), 0)

    return code


@intrinsic
def _one(context, state, data, blocks):
    return types.int64(*[types.int64] * 3), _blocks_of(1)


@intrinsic
def _two(context, state_a, state_b, data_a, data_b, blocks):
    return types.int64(*[types.int64] * 5), _blocks_of(2)


@njit([types.void(*[types.int64] * 3)], cache=True)
def _hash_one(state, data, blocks):
    _one(state, data, blocks)


@njit([types.void(*[types.int64] * 5)], cache=True)
def _hash_two(state_a, state_b, data_a, data_b, blocks):
    _two(state_a, state_b, data_a, data_b, blocks)


def _address(array: np.ndarray) -> int:
    return array.__array_interface__["data"][0]


class Sha256:
    """As hashlib's, of bytes or contiguous arrays."""

    def __init__(self) -> None:
        self.state = _START.copy()
        self.state_address = _address(self.state)
        self.tail = b""
        self.length = 0  # in bytes

    def update(self, data: bytes | memoryview | np.ndarray) -> None:
        data = np.frombuffer(data, dtype=np.uint8)
        self.length += len(data)
        if self.tail:
            data = np.concatenate([np.frombuffer(self.tail, dtype=np.uint8), data])
        whole = len(data) // BLOCK_BYTES
        if whole:
            _hash_one(self.state_address, _address(data), whole)
        self.tail = data[whole * BLOCK_BYTES :].tobytes()

    def copy(self) -> "Sha256":
        other = Sha256()
        other.state[:] = self.state
        other.tail, other.length = self.tail, self.length
        return other

    def digest(self) -> bytes:
        last = self.copy()
        zeros = (BLOCK_BYTES - 9 - self.length) % BLOCK_BYTES
        last.update(b"\x80" + bytes(zeros) + (8 * self.length).to_bytes(8, "big"))
        return last.state.astype(">u4").tobytes()


def update_two(first: Sha256, a: np.ndarray, second: Sha256, b: np.ndarray) -> None:
    """Both updates, at once where the arrays are of one size and no part of a block is waiting."""
    if a.nbytes != b.nbytes or first.tail or second.tail:
        first.update(a)
        second.update(b)
        return
    whole = a.nbytes // BLOCK_BYTES
    _hash_two(first.state_address, second.state_address, _address(a), _address(b), whole)
    for hash_, values in ((first, a), (second, b)):
        hash_.length += values.nbytes
        if values.nbytes % BLOCK_BYTES:
            hash_.tail = values.reshape(-1).view(np.uint8)[whole * BLOCK_BYTES :].tobytes()
