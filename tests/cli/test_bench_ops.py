"""The ops of a step: every second that was measured stands in a row, beside what the description says of it."""

import pytest
from round_hardware import round_device, tiny_spec

from farthing.cli.bench_measure import op_rows
from farthing.cli.bench_ops import StepOps, ops_table
from farthing.kernels.native.timing import by_method
from farthing.ops.batch import BatchShape
from farthing.planner.timing.forecast import forecast_step

SPEC = tiny_spec()
STEP = forecast_step(SPEC, BatchShape.decode(9), round_device(kind="cpu", overhead_seconds=1e-6), (None, None))
ATTENTION = ("rms_norm", "linear", "linear", "linear", "rope", "attention", "linear", "add")
LAYER = (*ATTENTION, "rms_norm", "linear", "linear", "silu_mul", "linear", "add")
METHODS = ("gather", "rotary_angles", *LAYER * 4, "gather", "rms_norm", "linear")


def test_products_have_their_own_names_and_all_seconds_are_there() -> None:
    rows = {row.name: row for row in op_rows(SPEC, STEP, [(method, 1.0) for method in METHODS])}
    assert rows["self_attn.q_proj"].count == rows["self_attn.q_proj"].measured == 4
    assert rows["lm_head"].measured == 1.0
    assert rows["norms"].count == rows["norms"].measured == 9
    assert sum(row.measured for row in rows.values()) == len(METHODS)
    assert sum(row.predicted for row in rows.values()) == pytest.approx(STEP.seconds)
    assert sum(row.limit for row in rows.values()) == pytest.approx(STEP.limit_seconds)


def test_products_that_are_computed_together_are_one_row() -> None:
    fused = [(method, 1.0) for method in METHODS if method != "silu_mul"][:-5]
    rows = {row.name: row for row in op_rows(SPEC, STEP, fused)}
    assert "self_attn.q_proj" not in rows
    assert rows["matrix products"].count == 4 * 7 + 1
    assert sum(row.measured for row in rows.values()) == len(fused)


def test_what_prepares_a_product_belongs_to_it_and_nothing_is_lost() -> None:
    kernels = [("quantize_rows_bf16", 1.0), ("linear_w8a8_bf16", 2.0), ("store_kv_bf16", 4.0), ("attention_bf16", 8.0)]
    kernels += [("combine_attention_bf16", 16.0), ("linear_widened", 32.0), ("widen_bf16", 64.0)]
    assert by_method(kernels) == [("linear", 3.0), ("attention", 28.0), ("linear", 96.0)]


def test_a_table_ends_with_the_sum() -> None:
    rows = op_rows(SPEC, STEP, [(method, 1.0) for method in METHODS])
    table = ops_table(StepOps("decode, batch 1", rows))
    assert list(table.columns[0].cells)[-1] == "all"
    assert list(table.columns[1].cells)[-1] == str(sum(row.count for row in rows))
