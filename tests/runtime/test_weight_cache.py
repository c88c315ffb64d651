"""Rounded weights on disk: the next load reads what the first has written, and nothing of another checkpoint."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import Case, make_reference, save_reference

from farthing.kernels.reference import ReferenceKernels
from farthing.models.auto import describe, read_config
from farthing.models.spec import Precision
from farthing.quantization.base import resolve
from farthing.runtime import loader, weight_cache
from farthing.runtime.device import Memory
from farthing.runtime.loader import load_weights
from farthing.runtime.staging import Staging

SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 80}


class Counting(ReferenceKernels):
    """Kernels that count the matrices that they round."""

    num_rounded = 0

    def write_rows(self, weight, first_row, w_RK):  # type: ignore[no-untyped-def]
        self.num_rounded += weight.format.quantized
        return super().write_rows(weight, first_row, w_RK)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(loader, "LEAST_BYTES", 0)
    return save_reference(make_reference(Case("plain", "Llama", SIZES)), tmp_path / "model")


def loaded(
    folder: Path, name: str = "int4", *, cache: bool = True, device: str = "cpu"
) -> tuple[dict[str, torch.Tensor], int]:
    """The tensors, and how many matrices were rounded for them."""
    kernels, steps = Counting(), list[tuple[int, int]]()
    spec = describe(read_config(folder), Precision.of(resolve(name, "cpu")))
    memory = Memory(torch.device(device))
    tensors, _ = load_weights(spec, folder, memory, lambda done, of: steps.append((done, of)), kernels, cache=cache)
    assert memory.bytes_by_use == {"weights": spec.weight_bytes} and steps[-1] == (spec.weight_bytes,) * 2
    return tensors, kernels.num_rounded


def kept(folder: Path) -> list[Path]:
    return sorted((folder.parent / "cache" / "farthing" / "weights").glob("*"))


@pytest.mark.parametrize("name", ["int8", "int4"])
def test_the_second_load_reads_what_the_first_has_written(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, num_rounded = loaded(folder, name)
    assert num_rounded == 14 and "keeping the weights" in capsys.readouterr().err and len(kept(folder)) == 1
    second, again = loaded(folder, name)
    assert again == 0 and capsys.readouterr().err == ""
    assert all(torch.equal(second[key], first[key]) for key in first)


@pytest.mark.parametrize("name", ["int8", "int4", "w4a16-zp", "fp8"])
def test_what_was_kept_is_staged_on_its_way_to_a_device(
    name: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = loaded(folder, name)
    monkeypatch.setattr(loader, "way_to", lambda device: Staging(device, 100))
    second, again = loaded(folder, name)
    assert again == 0 and all(torch.equal(second[key].view(torch.uint8), first[key].view(torch.uint8)) for key in first)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device, and this machine has none")
@pytest.mark.parametrize("name", ["w8a16", "w4a16", "fp8"])
def test_a_gpu_keeps_and_reads_what_it_has_rounded(name: str, folder: Path) -> None:
    first, num_rounded = loaded(folder, name, device="cuda")
    second, again = loaded(folder, name, device="cuda")
    assert num_rounded == 14 and again == 0
    assert all(torch.equal(second[key].view(torch.uint8), first[key].view(torch.uint8)) for key in first)


def test_it_can_be_left_out(folder: Path) -> None:
    loaded(folder, cache=False)
    assert kept(folder) == []


@pytest.mark.parametrize("name", ["fp32", "bf16"])
def test_what_is_not_rounded_is_not_kept(name: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "LEAST_BYTES", 1)
    loaded(folder, name)
    assert kept(folder) == []


def test_a_checkpoint_that_has_changed_is_rounded_anew_and_the_old_file_goes(folder: Path) -> None:
    loaded(folder)
    before, file = kept(folder), folder / "model.safetensors"
    save_file({key: x * 2 for key, x in load_file(file).items()}, file)
    os.utime(file, ns=(0, 0))
    assert loaded(folder)[1] == 14
    assert len(kept(folder)) == 1 and kept(folder) != before


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"", lambda data: data[:8] + b"x" + data[9:]])
def test_a_damaged_file_is_told_and_made_anew(damage, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:  # type: ignore[no-untyped-def]
    first, _ = loaded(folder)
    [file] = kept(folder)
    file.write_bytes(damage(file.read_bytes()))
    capsys.readouterr()
    second, num_rounded = loaded(folder)
    assert num_rounded == 14 and "made anew" in capsys.readouterr().err
    assert all(torch.equal(second[key], first[key]) for key in first) and loaded(folder)[1] == 0


def test_a_full_or_unwritable_disk_is_a_note(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(weight_cache.shutil, "disk_usage", lambda path: _Full())
    assert loaded(folder)[1] == 14 and "nearly full" in capsys.readouterr().err
    (folder.parent / "cache").rename(folder.parent / "other")
    (folder.parent / "cache").write_text("a file where the folder should be")
    assert loaded(folder)[1] == 14 and "can't be kept" in capsys.readouterr().err


class _Full:
    free = 0
