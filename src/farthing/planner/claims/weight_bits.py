"""Bits per weight of the formats that people name when they publish a speed: fp8, AWQ, Q4_K_M, 4.5 bpw, 6-bit.

Two figures each: the least that its code needs, on which a ceiling may rely, and what published files come to. Wider
than quantization/, which holds what Farthing runs itself. Knows no model and no hardware.
Sources: the block layouts of llama.cpp (ggml/src/ggml-common.h: bytes of a block / weights in it); AWQ and GPTQ, where
128 weights share a scale of 16 bits and a zero point of 4 (arXiv 2306.00978, 2210.17323): 4 + 20/128; nf4 with double
quantization (arXiv 2305.14314); OCP MX 1.0 for mxfp4.
"""

import re
from dataclasses import dataclass

from farthing.errors import UsageError


@dataclass(frozen=True, slots=True)
class WeightBits:
    """`least` bits that one weight takes in this format, and what published files take on average (`usual`).

    `plain_ends`: the files keep embedding and head in 16 bits, beside weights of `usual` bits.
    """

    name: str
    least: float
    usual: float
    plain_ends: bool = False

    @property
    def operand_bits(self) -> int:
        """The narrowest operands that a product with such weights can have: 4, 8 or 16 (32: fp32)."""
        return 4 if self.least <= 4.5 else 8 if self.least <= 8.5 else 16 if self.least <= 16 else 32


UNNAMED = WeightBits("unnamed", 2.0, 2.0)  # about the smallest in which people publish speeds

# Name -> (least, usual). Of GGUF types: the plain block, and about what the mixture makes of an 8B model, which keeps
# some tensors wider.
_KNOWN = {
    "fp32": (32.0, 32.0), "bf16": (16.0, 16.0), "fp16": (16.0, 16.0), "fp8": (8.0, 8.0), "int8": (8.0, 8.0),
    "w8a8": (8.0, 8.0), "w8a16": (8.0, 8.0), "fp6": (6.0, 6.25), "fp4": (4.0, 4.25), "nvfp4": (4.5, 4.5),
    "mxfp4": (4.25, 4.25), "int4": (4.0, 4.15), "w4a4": (4.0, 4.15), "w4a8": (4.0, 4.15), "w4a16": (4.0, 4.15),
    "awq": (4.0, 4.15), "gptq": (4.0, 4.15), "nf4": (4.0, 4.12), "int3": (3.0, 3.15), "int2": (2.0, 2.15),
    "q2": (2.0, 2.6), "q3": (3.0, 3.4), "q4": (4.0, 4.5), "q5": (5.0, 5.5), "q6": (6.0, 6.5), "q8": (8.0, 8.5),
    "q4_0": (4.5, 4.6), "q4_1": (5.0, 5.1), "q5_0": (5.5, 5.6), "q5_1": (6.0, 6.1), "q8_0": (8.5, 8.5),
    "q2_k": (2.625, 3.2), "q3_k": (3.4375, 4.0), "q4_k": (4.5, 4.9), "q5_k": (5.5, 5.7), "q6_k": (6.5625, 6.6),
    "iq1_s": (1.5625, 2.0), "iq1_m": (1.75, 2.2), "iq2_xxs": (2.0625, 2.4), "iq2_xs": (2.3125, 2.6),
    "iq2_s": (2.3125, 2.7), "iq2_m": (2.3125, 2.9), "iq3_xxs": (3.0625, 3.3), "iq3_xs": (3.0625, 3.5),
    "iq3_s": (3.4375, 3.7), "iq3_m": (3.4375, 3.8), "iq4_xs": (4.25, 4.4), "iq4_nl": (4.5, 4.7),
}  # fmt: skip
_OTHER_SPELLINGS = {
    "float32": "fp32", "f32": "fp32", "float16": "fp16", "f16": "fp16", "bfloat16": "bf16", "e4m3": "fp8",
    "bitsandbytes": "nf4",
} | {f"{block}_{size}": block for block in ("q2_k", "q3_k", "q4_k", "q5_k") for size in "sml"}  # fmt: skip
_NAMES = sorted({*_KNOWN, *_OTHER_SPELLINGS}, key=len, reverse=True)
_FORMAT = re.compile(
    rf"(?<![\w.])(?:(?P<bits>\d+(?:\.\d+)?)\s*-?\s*(?P<unit>bpw|bits?)|(?P<name>{'|'.join(_NAMES)}))(?![a-z0-9])"
)


def find_bits(text: str) -> tuple[WeightBits | None, str]:
    """The format that a text in lower case names (None: none), and the text without it.

    A stated number of bits goes before a name, which is the method's: "EXL3 4-bit", "GPTQ 3 bit".
    """
    found = list(_FORMAT.finditer(text))
    if not found:
        return None, text
    named = [_of_match(match) for match in found if match["bits"]] or [_of_match(match) for match in found]
    different = {bits.least: bits.name for bits in named}
    if len(different) > 1:
        raise UsageError(
            f"the claim names two weight formats, {' and '.join(different.values())}", fix="check one claim at a time"
        )
    return named[0], _FORMAT.sub(" ", text)


def parse_bits(name: str) -> WeightBits:
    """The format of this spelling. UsageError shows what is known."""
    match = _FORMAT.fullmatch(name.strip().lower())
    if match is None:
        raise UsageError(
            f"weight format {name!r:.40} is not known",
            fix="use one such as fp16, bf16, fp8, int8, int4, awq, gptq, q4_k_m, 4.5bpw",
        )
    return _of_match(match)


def _of_match(match: re.Match[str]) -> WeightBits:
    if not match["bits"]:
        name = _OTHER_SPELLINGS.get(match["name"], match["name"])
        block_of_gguf = re.match(r"i?q\d", name) is not None
        return WeightBits(match["name"], *_KNOWN[name], plain_ends=not block_of_gguf and _KNOWN[name][0] < 16)
    bits = float(match["bits"])
    if not 1 <= bits <= 32:
        raise UsageError(f"{bits:g} bits per weight are not possible", fix="say 1 to 32, such as 4.5bpw")
    if match["unit"] == "bpw":
        return WeightBits(f"{bits:g} bpw", bits, bits)
    return WeightBits(f"{bits:g}-bit", bits, bits if bits >= 8 else bits + 0.25)  # the code alone, without its scales
