"""Key pairs as sigstore's programs make and read them, made without those programs: Debian 12's skopeo signs, but makes no keys.

The private key is a PEM of JSON: what openssl made (PKCS #8, DER) in NaCl's secretbox (XSalsa20 and Poly1305), whose key is the
password's by scrypt.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import List, Sequence

from tests.support.checkout import tool

_SCRYPT = {"N": 32768, "r": 8, "p": 1}
_CONSTANTS = struct.unpack("<4I", b"expand 32-byte k")


@dataclass(frozen=True)
class KeyPair:
    """Files of a pair: `private` is encrypted with a password."""

    private: Path
    public: Path


def make_keys(directory: Path, password: str, name: str) -> KeyPair:
    """Write NAME.key and NAME.pub, a pair on the curve P-256."""
    directory.mkdir(parents=True, exist_ok=True)
    pair = KeyPair(directory / f"{name}.key", directory / f"{name}.pub")
    plain = directory / f"{name}.pem"
    tool("openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", str(plain))
    tool("openssl", "ec", "-in", str(plain), "-pubout", "-out", str(pair.public))
    encoded = directory / f"{name}.der"
    options = ["-topk8", "-nocrypt", "-outform", "DER"]
    tool("openssl", "pkcs8", *options, "-in", str(plain), "-out", str(encoded))
    pair.private.write_text(_encrypted(encoded.read_bytes(), password.encode()))
    plain.unlink()
    encoded.unlink()
    return pair


def _encrypted(data: bytes, password: bytes) -> str:
    salt, nonce = os.urandom(32), os.urandom(24)
    memory = 64 << 20  # scrypt takes 128 * N * r bytes
    key = hashlib.scrypt(password, salt=salt, n=_SCRYPT["N"], r=_SCRYPT["r"], p=_SCRYPT["p"], dklen=32, maxmem=memory)
    values = {
        "kdf": {"name": "scrypt", "params": _SCRYPT, "salt": _base64(salt)},
        "cipher": {"name": "nacl/secretbox", "nonce": _base64(nonce)},
        "ciphertext": _base64(secretbox(data, nonce, key)),
    }
    text = _base64(json.dumps(values).encode())
    lines = [text[start : start + 64] for start in range(0, len(text), 64)]
    kind = "ENCRYPTED COSIGN PRIVATE KEY"
    return "\n".join([f"-----BEGIN {kind}-----", *lines, f"-----END {kind}-----", ""])


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def secretbox(data: bytes, nonce: bytes, key: bytes) -> bytes:
    """`data` encrypted, behind its tag. Source: "Cryptography in NaCl", D. J. Bernstein."""
    stream = _salsa20(_hsalsa20(key, nonce[:16]), nonce[16:], 32 + len(data))
    sealed = bytes(one ^ other for one, other in zip(data, stream[32:]))
    return _poly1305(sealed, stream[:32]) + sealed


def _state(key: bytes, block: bytes) -> List[int]:
    words, middle = struct.unpack("<8I", key), struct.unpack("<4I", block)
    c = _CONSTANTS
    return [c[0], *words[:4], c[1], *middle, c[2], *words[4:], c[3]]


def _rounds(state: Sequence[int]) -> List[int]:
    x = list(state)
    columns = [(0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11)]
    rows = [(0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14)]
    for _ in range(10):
        for a, b, c, d in (*columns, *rows):
            for target, first, second, turn in ((b, a, d, 7), (c, b, a, 9), (d, c, b, 13), (a, d, c, 18)):
                total = (x[first] + x[second]) & 0xFFFFFFFF
                x[target] ^= (total << turn | total >> (32 - turn)) & 0xFFFFFFFF
    return x


def _hsalsa20(key: bytes, block: bytes) -> bytes:
    x = _rounds(_state(key, block))
    return struct.pack("<8I", *(x[number] for number in (0, 5, 10, 15, 6, 7, 8, 9)))


def _salsa20(key: bytes, nonce: bytes, size: int) -> bytes:
    found = b""
    for counter in range(size // 64 + 1):
        state = _state(key, nonce + struct.pack("<Q", counter))
        mixed = zip(state, _rounds(state))
        found += struct.pack("<16I", *((one + other) & 0xFFFFFFFF for one, other in mixed))
    return found[:size]


def _poly1305(data: bytes, key: bytes) -> bytes:
    r = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for start in range(0, len(data), 16):
        total = (total + int.from_bytes(data[start : start + 16] + b"\1", "little")) * r % ((1 << 130) - 5)
    return ((total + int.from_bytes(key[16:], "little")) % (1 << 128)).to_bytes(16, "little")
