"""What rounding costs: perplexity on some of the held-out texts of benchmarks/quality.md, by the code that wrote it."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from quality import perplexity, subjects


@pytest.mark.parametrize("index", [0, 1], ids=["bundled", "stories260K"])
def test_int8_is_within_half_a_percent_the_cache_in_int8_within_a_fifth_and_int4_no_worse_than_q4_0(
    index: int, shared: Path
) -> None:
    subject = subjects(shared)[index]
    names = ("fp32", "fp32 kv8", "int8", "int4", "q4_0")
    found = {name: perplexity(subject, name, subject.texts[::8])[0] for name in names}
    assert abs(found["fp32 kv8"] / found["fp32"] - 1) <= 0.002, found
    assert abs(found["int8"] / found["fp32"] - 1) <= 0.005, found
    assert found["int4"] <= found["q4_0"] * 1.0005, found  # all texts: benchmarks/quality.md
    assert found["int4"] <= found["fp32"] * (1.06 if subject.name == "bundled" else 1.1), found
