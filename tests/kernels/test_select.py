"""Kernels are chosen by the device and what is asked for; where the fast ones can't be had, the reason is told."""

import sys
from types import SimpleNamespace

import pytest
import torch

from farthing.errors import UnsupportedError
from farthing.kernels.reference import ReferenceKernels
from farthing.kernels.select import select_kernels
from farthing.kernels.vendor import VendorKernels


def selected(*, batch_invariant: bool = False, kv_dtype: str = "bf16") -> ReferenceKernels:
    return select_kernels(
        device_kind="cuda", batch_invariant=batch_invariant, weight_formats=[("bf16", 64)], activation_dtype="bf16",
        kv_dtype=kv_dtype, num_threads=1,
    )  # fmt: skip


@pytest.fixture
def card(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A 4090 in this machine, as torch tells of it."""
    properties = SimpleNamespace(major=8, minor=9, multi_processor_count=128)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    triton = pytest.importorskip("triton", reason="Triton is there on Linux alone")
    driver = SimpleNamespace(active=SimpleNamespace(get_current_target=lambda: "cuda"))
    monkeypatch.setattr(triton.runtime, "driver", driver)
    return properties


@pytest.mark.parametrize("batch_invariant", [True, False])
def test_a_card_of_capability_8_has_triton_kernels(card: SimpleNamespace, batch_invariant: bool) -> None:
    kernels = selected(batch_invariant=batch_invariant)
    assert kernels.name == "triton sm_89" and kernels.batch_invariant is batch_invariant


def test_an_older_card_has_the_plain_kernels_and_its_owner_is_told(
    card: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    card.major, card.minor = 7, 5
    assert type(selected()) is VendorKernels and type(selected(batch_invariant=True)) is ReferenceKernels
    assert "need compute capability 8.0, and this card has 7.5" in capsys.readouterr().err


def test_a_card_without_fp8_keeps_no_kv_cache_of_it_in_triton(
    card: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    assert selected(kv_dtype="fp8_e4m3").name == "triton sm_89"
    card.minor = 6
    assert selected(kv_dtype="int8").name == "triton sm_86"
    with pytest.raises(UnsupportedError, match="--kv-format int8"):
        selected(kv_dtype="fp8_e4m3")
    assert "sm_86 has no units for a KV cache of fp8" in capsys.readouterr().err


def test_without_a_compiler_for_triton_there_are_the_plain_kernels_and_the_reason(
    card: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails() -> str:
        raise RuntimeError("Failed to find C compiler.\nPlease specify it")

    monkeypatch.setattr(sys.modules["triton"].runtime.driver.active, "get_current_target", fails)
    assert type(selected()) is VendorKernels
    assert "no headers of Python (Failed to find C compiler.)" in capsys.readouterr().err


def test_without_triton_there_are_the_plain_kernels_and_the_reason(
    card: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("farthing.kernels.triton")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "triton", None)
    monkeypatch.setitem(sys.modules, "triton.language", None)
    assert type(selected()) is VendorKernels
    assert "triton" in capsys.readouterr().err
