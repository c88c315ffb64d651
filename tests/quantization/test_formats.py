"""The formats as data: found by their files, resolved from what people type, measured in bytes."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from tiny_models import Case, load, make_reference, save_reference

from farthing import quantization
from farthing.errors import UnsupportedError
from farthing.kernels.reference import ReferenceKernels
from farthing.kernels.weight import dequantize, quantize
from farthing.quantization.base import SPELLINGS, formats, resolve

EIGHT_BITS, FOUR_BITS = ("w8a8", "w8a16", "fp8"), ("w4a8", "w4a8-g64", "w4a8-g128", "w4a16", "w4a16-zp")
GENTLE = (  # of weights so small that a layer adds to the stream and does not turn it over, as in trained models
    Case("llama-gqa", "Llama", {"initializer_range": 0.05}),
    Case("qwen2-tied", "Qwen2", {"initializer_range": 0.05, "tie_word_embeddings": True}),
    Case("qwen3", "Qwen3", {"initializer_range": 0.05, "head_dim": 16}),
    Case(
        "mistral-odd",
        "Mistral",
        {"initializer_range": 0.05, "hidden_size": 60, "intermediate_size": 100, "head_dim": 10},
    ),
)
A_NEW_FORMAT = """
from farthing.quantization.base import WeightFormat

FORMATS = (WeightFormat("w8g32", math="bf16", bits=8, storage="int8", scale_dtype="fp16", group_size=32),)
"""


@pytest.fixture
def a_new_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A file beside those of farthing.quantization, and nothing else."""
    (tmp_path / "formats").mkdir()
    (tmp_path / "formats" / "w8g32.py").write_text(A_NEW_FORMAT)
    monkeypatch.setattr(quantization, "__path__", [*quantization.__path__, str(tmp_path / "formats")])
    yield "w8g32"
    sys.modules.pop("farthing.quantization.w8g32", None)


def logits(folder: Path, name: str) -> torch.Tensor:
    """Of every position of one prompt."""
    loaded = load(folder, dtype=name)
    return loaded.all_logits(list(range(5, 305, 5)))


def cosine(first: torch.Tensor, second: torch.Tensor) -> float:
    """Of the position where they differ most."""
    return float(torch.nn.functional.cosine_similarity(first, second, dim=-1).min())


def test_the_formats_are_those_of_the_design() -> None:
    assert set(formats()) == {"fp32", "bf16", "fp16", "fp8", *EIGHT_BITS, *FOUR_BITS}


@pytest.mark.parametrize(
    ("spelling", "cpu", "cuda"),
    [
        ("int8", "w8a8", "w8a16"),
        ("int4", "w4a8", "w4a16"),
        ("INT4", "w4a8", "w4a16"),
        ("half", "fp16", "fp16"),
        ("bfloat16", "bf16", "bf16"),
        ("float32", "fp32", "fp32"),
    ],
)
def test_a_spelling_means_the_format_that_suits_the_device(spelling: str, cpu: str, cuda: str) -> None:
    assert (resolve(spelling, "cpu").name, resolve(spelling, "cuda").name) == (cpu, cuda)


@pytest.mark.parametrize("device_kind", ["cpu", "cuda"])
def test_every_name_and_every_spelling_resolves_to_a_format_that_exists(device_kind: str) -> None:
    assert all(resolve(name, device_kind) is found for name, found in formats().items())
    assert all(resolve(spelling, device_kind).name in formats() for spelling in SPELLINGS)


@pytest.mark.parametrize("spelling", ["q4_k", "int3", "", "base", "auto"])
def test_an_unknown_format_is_refused_with_the_list_of_those_there_are(spelling: str) -> None:
    with pytest.raises(UnsupportedError, match="w8a16") as refused:
        resolve(spelling, "cpu")
    assert repr(spelling) in str(refused.value)


@pytest.mark.parametrize(
    ("name", "num_bytes"),
    [
        ("fp32", 4096 * 11008 * 4),
        ("bf16", 4096 * 11008 * 2),
        ("w8a8", 4096 * 11008 + 11008 * 4),  # a scale for each output
        ("w8a16", 4096 * 11008 + 11008 * 4),
        ("fp8", 4096 * 11008 + 11008 * 4),
        ("w4a16", 4096 * 11008 // 2 + 11008 * 4096 // 128 * 2),  # a 16-bit scale for 128 inputs
        ("w4a8", 4096 * 11008 // 2 + 11008 * 4096 // 32 * 2),
        ("w4a8-g64", 4096 * 11008 // 2 + 11008 * 4096 // 64 * 2),
        ("w4a8-g128", 4096 * 11008 // 2 + 11008 * 4096 // 128 * 2),
    ],
)
def test_the_bytes_of_a_matrix_are_its_codes_and_scales(name: str, num_bytes: int) -> None:
    assert formats()[name].nbytes(11008, 4096) == num_bytes


def test_an_odd_row_of_four_bit_codes_takes_half_a_byte_more() -> None:
    codes, scales = formats()["w4a16"].stored(3, 129)
    assert (codes.shape, scales.shape) == ((3, 65), (3, 2))


def test_a_format_file_dropped_into_the_folder_is_found_and_multiplies(a_new_format: str) -> None:
    found = resolve(a_new_format, "cpu")
    assert found is formats()[a_new_format]
    w_NK = torch.randn(5, 100, generator=torch.Generator().manual_seed(0))
    weight = quantize(w_NK, found)
    assert weight.scale_NG is not None and weight.scale_NG.shape == (5, 4)
    x_TK = torch.ones(1, 100)
    assert torch.allclose(ReferenceKernels().linear(x_TK, weight), x_TK @ dequantize(weight).T, atol=1e-4)


def test_a_model_runs_in_a_format_that_only_its_file_knows(a_new_format: str, tmp_path: Path) -> None:
    folder = save_reference(make_reference(GENTLE[0]), tmp_path / "model")
    assert cosine(logits(folder, a_new_format), logits(folder, "fp32")) > 0.99


@pytest.mark.parametrize("case", GENTLE, ids=lambda case: case.name)
def test_a_model_in_every_format_gives_nearly_the_logits_of_fp32(case: Case, tmp_path: Path) -> None:
    folder = save_reference(make_reference(case), tmp_path)
    exact = logits(folder, "fp32")
    found = {name: cosine(logits(folder, name), exact) for name in formats()}
    assert found["fp32"] > 0.999999 and min(found["bf16"], found["fp16"]) > 0.999
    assert min(found["w8a8"], found["w8a16"]) > 0.999 and found["fp8"] > 0.99
    assert min(found[name] for name in FOUR_BITS) > 0.9
