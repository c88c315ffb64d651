"""What a calibration answers, and that its file is either whole and of this machine or not used."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.errors import FarthingError
from farthing.hardware.calibration import (
    SCHEMA,
    BandwidthPoint,
    Calibration,
    DeviceKey,
    GemmPoint,
    PeakPoint,
    cpu_key,
    cuda_key,
    load,
    save,
    saved_here,
    to_json_object,
)

KIB, MIB = 2**10, 2**20
KEY = DeviceKey("cpu", "Example CPU @ 3.0 GHz", 8, "torch 2.13.0")
CALIBRATION = Calibration(
    device=KEY,
    date="2026-01-31T12:00:00+00:00",
    bandwidth=(
        BandwidthPoint(256 * KIB, 1, "dot", 100e9, 0.01),
        BandwidthPoint(256 * KIB, 8, "dot", 60e9, 0.05),
        BandwidthPoint(16 * MIB, 1, "dot", 20e9, 0.02),
        BandwidthPoint(16 * MIB, 8, "dot", 78e9, 0.02),
        BandwidthPoint(16 * MIB, 8, "mv", 80e9, 0.02),
        BandwidthPoint(256 * MIB, 8, "mv", 40e9, 0.02),
    ),
    gemm=(
        GemmPoint("fp32", 1, 512, 512, 8, 50e9, 0.1),
        GemmPoint("fp32", 1, 2048, 2048, 8, 20e9, 0.1),
        GemmPoint("fp32", 128, 2048, 2048, 8, 300e9, 0.1),
        GemmPoint("int8", 128, 2048, 2048, 8, 2000e9, 0.1),
    ),
    links=(),
    overhead_seconds_per_op=1e-6,
    process_bytes=150 * MIB,
    device_context_bytes=0,
)


def test_a_saved_calibration_is_loaded_as_it_was(tmp_path: Path):
    save(CALIBRATION, tmp_path)
    assert load(KEY, tmp_path) == CALIBRATION


def test_saving_again_replaces_the_file_and_leaves_nothing_else(tmp_path: Path):
    save(CALIBRATION, tmp_path)
    path = save(replace(CALIBRATION, overhead_seconds_per_op=2e-6), tmp_path)
    assert list(tmp_path.iterdir()) == [path]
    loaded = load(KEY, tmp_path)
    assert loaded is not None
    assert loaded.overhead_seconds_per_op == 2e-6


def test_a_machine_that_was_never_measured_has_no_calibration(tmp_path: Path):
    assert load(KEY, tmp_path / "absent") is None


@pytest.mark.parametrize(
    "other",
    [replace(KEY, name="Another CPU"), replace(KEY, num_cores=4), replace(KEY, versions="torch 2.14.0")],
    ids=["processor", "cores", "torch"],
)
def test_a_calibration_of_another_processor_core_count_or_torch_is_not_used(tmp_path: Path, other: DeviceKey):
    path = save(CALIBRATION, tmp_path)
    assert load(other, tmp_path) is None
    path.rename(tmp_path / other.file_name)
    assert load(other, tmp_path) is None


def _damaged() -> dict[str, str]:
    good = to_json_object(CALIBRATION)
    point = dict(good["bandwidth"][0])
    return {
        "empty": "",
        "cut": json.dumps(good)[:200],
        "list": "[1]",
        "deep": "[" * 100_000,
        "no schema": json.dumps({key: value for key, value in good.items() if key != "schema"}),
        "field missing": json.dumps({key: value for key, value in good.items() if key != "gemm"}),
        "field too many": json.dumps(good | {"color": "red"}),
        "text for number": json.dumps(good | {"process_bytes": "150"}),
        "truth for number": json.dumps(good | {"process_bytes": True}),
        "not a number": json.dumps(good | {"overhead_seconds_per_op": float("nan")}),
        "negative": json.dumps(good | {"bandwidth": [point | {"bytes_per_second": -1.0}]}),
        "zero": json.dumps(good | {"bandwidth": [point | {"working_set_bytes": 0}]}),
        "nothing measured": json.dumps(good | {"bandwidth": []}),
        "number for points": json.dumps(good | {"gemm": 3}),
        "null": json.dumps(good | {"device": None}),
    }


@pytest.mark.parametrize("content", _damaged().values(), ids=_damaged().keys())
def test_a_damaged_file_is_one_line_that_says_to_probe_again(tmp_path: Path, content: str):
    (tmp_path / KEY.file_name).write_text(content)
    with pytest.raises(FarthingError, match="is damaged - run farthing probe") as caught:
        load(KEY, tmp_path)
    assert "\n" not in str(caught.value)


def test_a_file_of_an_older_farthing_is_as_if_there_were_none(tmp_path: Path):
    (tmp_path / KEY.file_name).write_text(json.dumps({"schema": "farthing.calibration/1", "anything": "else"}))
    assert load(KEY, tmp_path) is None
    assert saved_here(tmp_path) == []


def test_a_file_of_a_newer_farthing_is_named_as_that(tmp_path: Path):
    newer = {"schema": "farthing.calibration/3", "anything": "else"}
    (tmp_path / KEY.file_name).write_text(json.dumps(newer))
    with pytest.raises(FarthingError, match=r"farthing\.calibration/3.* - run farthing probe"):
        load(KEY, tmp_path)


def test_a_folder_that_cannot_be_written_is_a_clear_error_and_leaves_nothing(tmp_path: Path):
    (tmp_path / KEY.file_name).mkdir()
    with pytest.raises(FarthingError, match="can't be written"):
        save(CALIBRATION, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [KEY.file_name]


def test_a_device_name_never_leaves_the_folder():
    name = replace(KEY, name="../../etc/passwd\0\n").file_name
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-")
    assert not name.startswith(".")


def test_names_that_look_alike_have_different_files():
    assert replace(KEY, name="A+B").file_name != replace(KEY, name="A-B").file_name


def test_the_key_of_this_processor_is_found_without_torch_and_is_stable():
    assert cpu_key() == cpu_key()
    assert cpu_key().name
    assert cpu_key().num_cores >= 1


def test_a_gpu_is_keyed_by_its_driver():
    assert cuda_key("GPU", cuda="12.8", driver="570.1") != cuda_key("GPU", cuda="12.8", driver="580.2")


def test_a_gpu_with_other_kernels_is_another_and_without_any_is_as_it_was(tmp_path: Path):
    measured, plain = (cuda_key("GPU", cuda="12.8", driver="570.1", kernels=name) for name in ("kernels triton-a", ""))
    assert measured.versions == f"{plain.versions}, kernels triton-a"
    assert plain == cuda_key("GPU", cuda="12.8", driver="570.1")
    save(replace(CALIBRATION, device=measured), tmp_path)
    assert load(measured, tmp_path) is not None
    for other in ("kernels triton-b", ""):
        assert load(cuda_key("GPU", cuda="12.8", driver="570.1", kernels=other), tmp_path) is None


def test_the_json_object_names_its_schema():
    assert to_json_object(CALIBRATION)["schema"] == SCHEMA == "farthing.calibration/2"


def test_bandwidth_at_a_measured_size_is_the_best_of_threads_and_ops():
    assert CALIBRATION.read_bandwidth(256 * KIB) == 100e9
    assert CALIBRATION.read_bandwidth(16 * MIB) == 80e9


def test_bandwidth_between_two_sizes_lies_between_them_by_the_logarithm():
    assert CALIBRATION.read_bandwidth(64 * MIB) == pytest.approx(60e9)


def test_bandwidth_beyond_the_measured_sizes_is_that_of_the_nearest():
    assert CALIBRATION.read_bandwidth(0) == CALIBRATION.read_bandwidth(1) == 100e9
    assert CALIBRATION.read_bandwidth(2**40) == 40e9


def test_the_rate_of_matrix_products_is_the_best_shape_of_that_many_rows():
    assert CALIBRATION.flops_per_second("fp32", 1) == 50e9
    assert CALIBRATION.flops_per_second("fp32", 10_000) == 300e9


def test_a_math_that_was_not_measured_is_priced_as_fp32():
    assert CALIBRATION.flops_per_second("bf16", 128) == CALIBRATION.flops_per_second("fp32", 128)
    assert CALIBRATION.flops_per_second("int8", 128) == 2000e9


def test_a_calibration_without_bandwidth_or_fp32_is_refused():
    with pytest.raises(ValueError, match="at least"):
        replace(CALIBRATION, bandwidth=())
    with pytest.raises(ValueError, match="at least"):
        replace(CALIBRATION, gemm=(CALIBRATION.gemm[-1],))


@given(bytes_touched=st.integers(0, 2**45), rows=st.integers(1, 10**6), math=st.sampled_from(["fp32", "int8", "fp8"]))
def test_no_answer_exceeds_what_was_measured(bytes_touched: int, rows: int, math: str):
    assert 40e9 <= CALIBRATION.read_bandwidth(bytes_touched) <= 100e9
    assert 50e9 <= CALIBRATION.flops_per_second(math, rows) <= 2000e9


RECORDED = replace(
    CALIBRATION,
    bandwidth=(
        *CALIBRATION.bandwidth,
        BandwidthPoint(10 * KIB, 8, "small ops", 5e9, 0.0),
        BandwidthPoint(10 * MIB, 8, "small ops", 50e9, 0.0),
    ),
    gemm=(
        *CALIBRATION.gemm,
        GemmPoint("int8", 1, 512, 512, 8, 80e9, 0.0, "w8a8", MIB),
        GemmPoint("int8", 1, 2048, 2048, 8, 40e9, 0.0, "w8a8", 512 * MIB),
        GemmPoint("int8", 16, 2048, 2048, 8, 640e9, 0.0, "w8a8", 512 * MIB),
        GemmPoint("fp32", 1, 64, 64, 8, 10e9, 0.0, "attention", 64 * KIB),
        GemmPoint("fp32", 100, 64, 64, 8, 1000e9, 0.0, "attention", 64 * KIB),
    ),
    peaks=(PeakPoint("int8", 1, 1e12, 0.0), PeakPoint("int8", 8, 4e12, 0.0)),
    records=True,
    overhead_seconds_per_op_alone=1e-8,
    overhead_seconds_per_step=1e-3,
    overhead_seconds_per_sequence=1e-5,
    overhead_seconds_per_logit=1e-9,
)


def test_a_recorded_calibration_is_loaded_as_it_was(tmp_path: Path):
    save(RECORDED, tmp_path)
    assert load(KEY, tmp_path) == RECORDED


def test_a_product_in_a_format_has_the_rate_of_its_rows_and_of_where_its_weights_lie():
    assert RECORDED.product_rate("w8a8", "int8", 1, MIB) == 80e9
    assert RECORDED.product_rate("w8a8", "int8", 1, 2**40) == 40e9
    assert RECORDED.product_rate("w8a8", "int8", 4, 2**40) == pytest.approx(160e9)  # as the rows, between two of them
    assert RECORDED.product_rate("w8a8", "int8", 512, 2**40) == 640e9


def test_a_format_that_was_not_measured_has_the_rate_of_its_math():
    assert RECORDED.product_rate("w4a16", "bf16", 128, MIB) == RECORDED.flops_per_second("bf16", 128)


def test_attention_and_small_ops_have_rates_of_their_own_and_are_no_products_or_reads():
    assert RECORDED.attention_rate("bf16", 10, MIB) == pytest.approx(100e9)
    assert RECORDED.small_op_bandwidth(10 * KIB, 2**40) == 5e9
    assert RECORDED.read_bandwidth(256 * KIB) == CALIBRATION.read_bandwidth(256 * KIB)
    assert RECORDED.flops_per_second("fp32", 128) == CALIBRATION.flops_per_second("fp32", 128)
    assert CALIBRATION.attention_rate("fp32", 128, 1) == CALIBRATION.flops_per_second("fp32", 128)


def test_a_rate_that_is_remembered_is_that_of_its_own_math() -> None:
    for maths in (("fp32", "bf16"), ("bf16", "fp32")):
        fresh = replace(CALIBRATION)
        assert [fresh.attention_rate(math, 128, 1) for math in maths] == [
            CALIBRATION.flops_per_second(math, 128) for math in maths
        ]
    assert CALIBRATION.small_op_bandwidth(1, 256 * KIB) == CALIBRATION.read_bandwidth(256 * KIB)


def test_a_peak_is_that_of_the_instructions_or_else_of_the_best_product():
    assert RECORDED.peak("int8") == 4e12
    assert CALIBRATION.peak("int8") == 2000e9


def test_a_step_takes_so_much_around_its_calls_and_more_with_each_sequence():
    assert RECORDED.host_seconds(16, 1000) == pytest.approx(1.176e-3)
    assert CALIBRATION.host_seconds(16, 1000) == 0.0
