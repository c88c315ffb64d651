"""The way of weights to a device: whatever they are and however small the buffers, they arrive as they were."""

from pathlib import Path

import pytest
import torch
from tiny_models import Case, make_reference, save_reference

from farthing.errors import CheckpointError
from farthing.kernels.weight import TORCH_DTYPES
from farthing.models.auto import describe, read_config
from farthing.models.spec import Precision
from farthing.quantization.base import resolve
from farthing.runtime import loader
from farthing.runtime.device import Memory
from farthing.runtime.loader import load_weights, random_weights
from farthing.runtime.staging import Direct, Staging, way_to

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 80}
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and this machine has none")
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_reference(make_reference(Case("plain", "Llama", SIZES)), tmp_path_factory.mktemp("model"))


def loaded(folder: Path, name: str, device: torch.device = CPU) -> dict[str, torch.Tensor]:
    spec = describe(read_config(folder), Precision.of(resolve(name, "cuda")))
    return load_weights(spec, folder, Memory(device), lambda done, total: None)[0]


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name].cpu(), second[name].cpu()) for name in first)


@pytest.mark.parametrize("name", TORCH_DTYPES)
@pytest.mark.parametrize("shape", [(), (1,), (7, 33), (5, 4, 3), (0, 4)], ids=str)
def test_numbers_of_every_dtype_and_shape_arrive_through_buffers_that_are_smaller(
    name: str, shape: tuple[int, ...]
) -> None:
    value = torch.randn(shape, generator=torch.Generator().manual_seed(1)).mul(9).to(TORCH_DTYPES[name])
    staging = Staging(CPU, 24)
    for _ in range(3):  # both buffers have been used by then
        found = staging.moved(value)
        assert found.dtype == value.dtype and found.shape == value.shape
        assert torch.equal(found.view(-1).view(torch.uint8), value.view(-1).view(torch.uint8))


def test_rows_that_are_not_one_piece_of_memory_arrive_too() -> None:
    value = torch.arange(60.0).view(6, 10).t()
    assert torch.equal(Staging(CPU, 16).moved(value), value)


def test_nothing_is_staged_on_the_way_to_the_cpu() -> None:
    value = torch.ones(3)
    assert isinstance(way_to(CPU), Direct) and way_to(CPU).moved(value) is value


@pytest.mark.parametrize("name", ["fp32", "bf16", "int8", "int4", "fp8"])
def test_weights_that_were_staged_are_those_that_were_not(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = loaded(folder, name)
    monkeypatch.setattr(loader, "way_to", lambda device: Staging(device, 1000))
    monkeypatch.setattr(loader, "_PIECE_VALUES", 100)
    monkeypatch.setattr(loader, "_CHECKED_TOGETHER", 3)
    assert same(loaded(folder, name), plain)


def test_random_weights_are_the_same_for_any_number_of_threads_that_draw_them(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "_PIECE_VALUES", 100)
    spec = describe(read_config(folder), Precision.of(resolve("int4", "cpu")))
    before, drawn = torch.get_num_threads(), []
    try:
        for num_threads in (1, 3):
            torch.set_num_threads(num_threads)
            drawn.append(random_weights(spec, 7, Memory(CPU))[0])
    finally:
        torch.set_num_threads(before)
    assert same(*drawn)


@pytest.mark.gpu
@GPU
@pytest.mark.parametrize("name", ["fp32", "bf16", "fp16", "int8", "int4", "fp8"])
def test_a_gpu_holds_the_very_weights_of_a_cpu(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "_PIECE_VALUES", 100)
    assert same(loaded(folder, name, torch.device("cuda")), loaded(folder, name))


@pytest.mark.gpu
@GPU
@pytest.mark.parametrize("name", ["bf16", "int4"])
def test_a_tensor_that_is_not_finite_is_named_by_a_gpu_too(name: str, tmp_path: Path) -> None:
    reference = make_reference(Case("plain", "Llama", SIZES))
    with torch.no_grad():
        reference.model.layers[1].mlp.up_proj.weight[3, 5] = float("nan")
    save_reference(reference, tmp_path)
    with pytest.raises(CheckpointError, match=r"layers\.1\.mlp\.up_proj\.weight holds NaN"):
        loaded(tmp_path, name, torch.device("cuda"))


@pytest.mark.gpu
@GPU
@pytest.mark.parametrize("name", ["bf16", "int4", "fp8"])
def test_a_gpu_draws_random_weights_by_itself_and_gives_back_what_that_took(name: str, folder: Path) -> None:
    device = torch.device("cuda")
    spec = describe(read_config(folder), Precision.of(resolve(name, "cuda")))
    first, again = (random_weights(spec, 3, Memory(device))[0] for _ in range(2))
    assert same(first, again) and all(tensor.device.type == "cuda" for tensor in first.values())
    del again
    torch.cuda.empty_cache()
    assert torch.cuda.memory_allocated() < 2 * spec.weight_bytes + 2**20
