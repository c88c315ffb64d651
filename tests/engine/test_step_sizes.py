"""Sequences at a time and tokens of a step, where nobody says so: fixed on a CPU, of a GPU by memory and ridge."""

import pytest

from farthing.engine.config import EngineConfig
from farthing.engine.fit import resolve_sizes, resolve_spec, sequences_here
from farthing.engine.room import Room
from farthing.engine.step_sizes import StepSizes, ridge, ridge_of_gpu, step_sizes
from farthing.errors import UsageError
from farthing.hardware.calibration import BandwidthPoint, Calibration, DeviceKey, GemmPoint
from farthing.models.auto import config_of
from farthing.models.reference import find_model
from farthing.quantization.base import resolve

GIB = 2**30
H200, RTX_4090 = "NVIDIA H200", "NVIDIA GeForce RTX 4090"
LLAMA = config_of(find_model("llama-3.1-8b"))


def sizes(sequences: int | None = None, tokens: int | None = None, *, gib: int = 140, ridge_rows: float | None = 206.0):
    return step_sizes(sequences, tokens, device_kind="cuda", total_bytes=gib * GIB, ridge_rows=ridge_rows)


def resolved(config: EngineConfig, name: str, total_bytes: int, calibration: Calibration | None = None) -> StepSizes:
    kind = "cpu" if name == "" else "cuda"
    spec, _ = resolve_spec(LLAMA, config, "8b", kind=kind, plain_dtype="bf16")
    room = Room(kind, total_bytes, total_bytes, 0)
    return resolve_sizes(config, spec, room, name=name, calibration=calibration).sizes


def measured(flops_per_second: float, bytes_per_second: float) -> Calibration:
    return Calibration(
        device=DeviceKey("cuda", H200, 16, "torch 2.13"),
        date="2026-11-30T00:00:00+00:00",
        bandwidth=(BandwidthPoint(GIB, 1, "dot", bytes_per_second, 0.0),),
        gemm=(
            GemmPoint("fp32", 1, 2048, 2048, 1, 1e12, 0.0),
            GemmPoint("bf16", 1, 2048, 2048, 1, 1e13, 0.0),
            GemmPoint("bf16", 512, 2048, 2048, 1, flops_per_second, 0.0),
        ),
        links=(),
        overhead_seconds_per_op=1e-6,
        process_bytes=1,
        device_context_bytes=1,
    )


def test_a_product_takes_as_long_as_its_weights_at_the_ridge() -> None:
    """H200: 989 TFLOP/s of 16 bits, 4.8 TB/s; RTX 4090: 165 and 1.008 (their data sheets)."""
    assert ridge(989e12, resolve("bf16", "cuda"), 4.8e12) == pytest.approx(206, abs=0.1)
    assert ridge(165e12, resolve("bf16", "cuda"), 1.008e12) == pytest.approx(163.7, abs=0.1)
    assert ridge(989e12, resolve("int8", "cuda"), 4.8e12) == pytest.approx(103, abs=0.1)
    assert ridge(1978e12, resolve("fp8", "cuda"), 4.8e12) == pytest.approx(206, abs=0.1)


@pytest.mark.parametrize(
    ("name", "gib", "weight_format", "expected"),
    [
        (H200, 140, "bf16", (256, 1024)),
        (H200, 140, "fp8", (256, 1024)),
        (H200, 140, "int8", (256, 512)),
        (RTX_4090, 24, "bf16", (64, 768)),
        (RTX_4090, 24, "int4", (64, 512)),
        ("NVIDIA A100-SXM4-40GB", 39.4, "bf16", (256, 1024)),
        ("NVIDIA A100-SXM4-40GB", 39.4, "fp8", (256, 512)),
        ("a card of tomorrow", 24, "bf16", (64, 2048)),
        ("", 64, "auto", (16, 512)),
        ("", 8, "int4", (16, 512)),
    ],
)
def test_a_device_has_sizes_by_its_memory_and_its_data_sheet(
    name: str, gib: float, weight_format: str, expected: tuple[int, int]
) -> None:
    assert resolved(EngineConfig(format=weight_format), name, int(gib * GIB)) == StepSizes(*expected)


def test_what_was_measured_goes_before_the_data_sheet() -> None:
    assert resolved(EngineConfig(), H200, 140 * GIB, measured(700e12, 4.2e12)) == StepSizes(256, 768)
    unknown = ridge_of_gpu("a card of tomorrow", measured(700e12, 4.2e12), resolve("bf16", "cuda"), GIB)
    assert unknown == pytest.approx(166.7, abs=0.1)


def test_tokens_stay_between_512_and_8192_and_hold_every_sequence() -> None:
    assert sizes(ridge_rows=1.0) == StepSizes(256, 512)
    assert sizes(ridge_rows=1e6) == StepSizes(256, 8192)
    assert sizes(1000) == StepSizes(1000, 1024)
    assert sizes(9000) == StepSizes(9000, 9000)
    assert resolved(EngineConfig(max_num_seqs=600), "", GIB) == StepSizes(600, 600)


def test_what_is_said_stays_and_the_rest_is_fitted_to_it() -> None:
    assert sizes(3, 5) == StepSizes(3, 5)
    assert sizes(None, 100) == StepSizes(100, 100)
    assert sizes(None, 4096, gib=24) == StepSizes(64, 4096)
    assert resolved(EngineConfig(max_num_seqs=3, max_batch_tokens=5), "", GIB) == StepSizes(3, 5)


def test_fewer_tokens_than_sequences_are_refused_by_the_flags_that_say_so() -> None:
    with pytest.raises(UsageError, match=r"--max-batch-tokens 100 is below --max-num-seqs 101"):
        EngineConfig(max_num_seqs=101, max_batch_tokens=100)
    with pytest.raises(UsageError, match=r"--max-batch-tokens 15 is below --max-num-seqs 16"):
        EngineConfig(max_batch_tokens=15)


def test_sequences_of_this_machine_need_no_model() -> None:
    assert sequences_here(EngineConfig(device="cpu")) == 16
    assert sequences_here(EngineConfig(device="cpu", max_num_seqs=5)) == 5
