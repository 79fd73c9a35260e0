"""CRC-64 of ISO 3309 (bits reflected), by which tar-split knows a file's content. Python has no such function.

The generator is x^64 + x^4 + x^3 + x + 1, and squaring is linear over GF(2). So x^64 = x^4 + x^3 + x + 1 holds with every
power multiplied by 2^k as well: a message loses half of its bits by a few shifts of whole numbers, instead of a table's look-up
for each byte. Source: what Go's hash/crc64 calls ISO, with all bits set before and inverted afterwards.
"""

from __future__ import annotations

_ONES = (1 << 64) - 1
# Bytes that are taken at once: larger numbers leave the processor's cache.
_STEP = 64 << 10


def update(crc: int, data: bytes) -> int:
    """The CRC of what `crc` is of (0: of nothing) with `data` behind it."""
    for at in range(0, len(data), _STEP):
        step = data[at : at + _STEP]
        crc = _remainder(int.from_bytes(step, "little") ^ crc ^ _ONES, 8 * len(step) + 64) ^ _ONES
    return crc


def _remainder(bits: int, length: int) -> int:
    """Of a polynomial with `length` bits; the lowest bit is the coefficient of the highest power."""
    while length > 64:
        power = ((length - 1) // 64).bit_length() - 1
        low, factor = 64 << power, 1 << power
        above = length - low
        high, bits = bits & ((1 << above) - 1), bits >> above
        length = max(low, above + 4 * factor)
        shift = length - above
        bits <<= length - low
        for exponent in (0, 1, 3, 4):
            bits ^= high << (shift - exponent * factor)
    return bits
