"""Which kernel multiplies how many rows: measured once, kept, never where rows must not depend on their batch."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from farthing.kernels.triton.choice import Chooser
from farthing.kernels.triton.gemm import Tile
from farthing.kernels.triton.launch import Chip, Noted
from farthing.kernels.triton.linear import Library, Plan, by_rule, candidates
from farthing.kernels.weight import Weight, quantize
from farthing.quantization.base import formats

CHIP = Chip(89, 128)


def weight_of(name: str, outputs: int = 64, columns: int = 128) -> Weight:
    return quantize(torch.zeros(outputs, columns), formats()[name])


class Clock:
    """Says of each call in turn that it takes the next of some seconds; counts calls."""

    def __init__(self, *seconds: float) -> None:
        self.seconds, self.count = seconds, 0

    def __call__(self, call: Callable[[], object]) -> float:
        self.count += 1
        return self.seconds[(self.count - 1) % len(self.seconds)]


def chooser(folder: Path, measure: Clock, *, batch_invariant: bool = False) -> Chooser:
    return Chooser(Noted(CHIP), batch_invariant=batch_invariant, folder=folder, measure=measure)


def test_the_fastest_of_each_number_of_rows_is_taken(tmp_path: Path) -> None:
    weight, choices = weight_of("bf16"), list(candidates(weight_of("bf16"), torch.bfloat16, CHIP))
    falling = chooser(tmp_path, Clock(*range(99, 0, -1))).plan(weight, torch.bfloat16)
    expected = [kernels[-1] for _, _, kernels in choices]
    assert falling == Plan(tuple(zip((1, 16, 64), expected, strict=False)), expected[-1])
    rising = chooser(tmp_path / "other", Clock(*range(99))).plan(weight, torch.bfloat16)
    assert rising == Plan(((1, Library()), (16, Library()), (64, Library())), Library())


def test_a_shape_is_measured_once_in_a_process_and_once_on_a_machine(tmp_path: Path) -> None:
    first, later = Clock(3, 2, 1), Clock(1, 2, 3)
    chosen = chooser(tmp_path, first)
    plan = chosen.plan(weight_of("w4a16"), torch.bfloat16)
    count = first.count
    choices = [len(kernels) for _, _, kernels in candidates(weight_of("w4a16"), torch.bfloat16, CHIP)]
    assert count == sum(each for each in choices if each > 1) > 0  # of a single one nothing is measured
    assert chosen.plan(weight_of("w4a16"), torch.bfloat16) == plan and first.count == count
    assert chooser(tmp_path, later).plan(weight_of("w4a16"), torch.bfloat16) == plan and later.count == 0


def test_another_shape_format_or_dtype_is_measured_for_itself(tmp_path: Path) -> None:
    clock = Clock(1)
    chosen = chooser(tmp_path, clock)
    for weight, dtype in (
        (weight_of("bf16"), torch.bfloat16), (weight_of("bf16", 128), torch.bfloat16),
        (weight_of("w8a16"), torch.bfloat16), (weight_of("w8a16"), torch.float16),
    ):  # fmt: skip
        before = clock.count
        chosen.plan(weight, dtype)
        assert clock.count > before


@pytest.mark.parametrize("text", ["", "[0]", "[0, 0, 0, 99]", '["a", 0, 0, 0]', "{}", "null"])
def test_a_damaged_file_is_measured_anew(tmp_path: Path, text: str) -> None:
    chooser(tmp_path, Clock(1)).plan(weight_of("bf16"), torch.bfloat16)
    (file,) = tmp_path.iterdir()
    file.write_text(text)
    clock = Clock(1)
    chooser(tmp_path, clock).plan(weight_of("bf16"), torch.bfloat16)
    assert clock.count > 0 and file.read_text() == "[0, 0, 0, 0]"


def test_a_folder_that_cannot_be_written_costs_measuring_and_nothing_more(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    clock = Clock(1)
    chosen = chooser(tmp_path / "file" / "folder", clock)
    plan, count = chosen.plan(weight_of("bf16"), torch.bfloat16), clock.count
    assert chosen.plan(weight_of("bf16"), torch.bfloat16) == plan and clock.count == count


def test_a_kernel_that_is_refused_is_not_taken(tmp_path: Path) -> None:
    calls = 0

    def measure(call: Callable[[], object]) -> float:
        nonlocal calls
        calls += 1
        if calls % 2:
            raise RuntimeError("not on this chip")
        return 1.0

    weight = weight_of("w8a16")
    plan = Chooser(Noted(CHIP), batch_invariant=False, folder=tmp_path, measure=measure).plan(weight, torch.bfloat16)
    kernels = next(iter(candidates(weight, torch.bfloat16, CHIP)))[2]
    assert plan.kernel(1) == kernels[1]


def test_where_every_kernel_is_refused_that_is_told_and_nothing_is_kept(tmp_path: Path) -> None:
    def refuse(call: Callable[[], object]) -> float:
        raise RuntimeError("the device is lost")

    with pytest.raises(RuntimeError, match="no kernel multiplies"):
        Chooser(Noted(CHIP), batch_invariant=False, folder=tmp_path, measure=refuse).plan(
            weight_of("w8a16"), torch.bfloat16
        )
    assert not list(tmp_path.iterdir())


def test_where_rows_must_not_depend_on_their_batch_a_rule_says_it_and_nothing_is_measured(tmp_path: Path) -> None:
    clock, weight = Clock(1), weight_of("bf16")
    plan = chooser(tmp_path, clock, batch_invariant=True).plan(weight, torch.bfloat16)
    assert plan == by_rule(weight, torch.bfloat16, CHIP) and clock.count == 0 and not list(tmp_path.iterdir())
    assert isinstance(plan.kernel(1), Tile) and plan.kernel(1) == plan.kernel(8192)
