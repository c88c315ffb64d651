"""A model in one format: time until it answers, memory, decode, prefill, and continuous batching where it is asked for.

A row has what the description says of the work (bytes moved, operations by math) and what the roofline forecast; shares
of any peak follow from it (results.py).
"""

import random
import statistics
import time
from pathlib import Path
from typing import Any

import torch

from farthing.engine.accounts.step_price import forecast
from farthing.engine.accounts.step_record import StepRecord
from farthing.engine.engine import Engine
from farthing.engine.request import Request
from farthing.errors import FarthingError
from farthing.models.step_cost import StepCost
from farthing.ops.batch import BatchShape
from farthing.ops.cost import Cost
from farthing.sampling_params import SamplingParams
from on_gpu.loading import RecordedRunner, format_name, load_engine, memory_row
from on_gpu.reporting import Reporter
from on_gpu.sizes import Sizes, fits
from on_gpu.steps import WARM_STEPS, Steps

_PREFILL_REPEATS = 3
_SECONDS_OF_A_CASE = 2.0  # without which none is begun
_FIRST_PROMPT = 32  # tokens
_FILL_SECONDS = 10.0
_WARM_REQUESTS = (20, 2, 32)  # and as many once more; of each, the range of its lengths


class ModelPart:
    """A loaded model and the rows that are measured of it."""

    def __init__(
        self,
        sizes: Sizes,
        weight_format: str,
        device: torch.device,
        folder: Path,
        report: Reporter,
        *,
        import_seconds: float,
        batch_invariant: bool = False,
    ) -> None:
        self._sizes, self._report = sizes, report
        self._engine = load_engine(
            sizes, weight_format, device, folder, report, import_seconds=import_seconds, batch_invariant=batch_invariant
        )
        self._spec = self._engine.plan.spec
        self.format = format_name(self._engine.plan)
        self._steps = Steps(self._engine, sizes.max_batch_tokens)
        begin = time.perf_counter()
        self._steps.prefill(min(_FIRST_PROMPT, sizes.max_batch_tokens))
        report.row("first token", format=self.format, first_token_seconds=time.perf_counter() - begin)
        self._steps.prefill(sizes.max_batch_tokens)
        memory_row(self._engine, report)

    def fill(self) -> None:
        """Of the largest case that is not the longest: the others read the same blocks."""
        batch, context = max(self._sizes.decodes, key=lambda case: (case[0] * case[1], case[0]))
        what = f"{self.format}: random numbers in the KV cache"
        with self._report.telling(what):
            wanted = min(batch, self._engine.plan.memory.kv_tokens // context)
            filled = self._steps.fill(wanted, context, _FILL_SECONDS)
            if filled < wanted:
                self._report.problem(what, f"in {filled} of {wanted} sequences; the others read zeros")

    def decode(self, cases: tuple[tuple[int, int], ...] | None = None) -> None:
        for batch, context in cases or self._sizes.decodes:
            what = f"{self.format}: decode, batch {batch}, context {context:,}"
            if not fits(batch, context, self._spec.kv_bytes_per_token) or not self._steps.has_room(batch, context):
                self._report.problem(what, "not measured: its KV does not fit")
            elif self._report.has_time(what, _SECONDS_OF_A_CASE * (not self._sizes.is_quick)):
                with self._report.telling(what):
                    timed, num_steps = self._steps.decode(batch, context, self._sizes.seconds_of_case)
                    shape = BatchShape.decode(context + WARM_STEPS + num_steps // 2, batch)
                    self._row(
                        "decode",
                        [shape],
                        timed.wall_seconds,
                        batch=batch,
                        context=context,
                        tokens=batch,
                        device_seconds=timed.device_seconds,
                        host_share=timed.host_share,
                    )

    def prefill(self) -> None:
        for num_tokens in self._sizes.prefills:
            what = f"{self.format}: prefill of {num_tokens:,}"
            if self._report.has_time(what, _SECONDS_OF_A_CASE * (not self._sizes.is_quick)):
                with self._report.telling(what):
                    self._steps.prefill(num_tokens)
                    seconds = statistics.median(self._steps.prefill(num_tokens) for _ in range(_PREFILL_REPEATS))
                    size = self._sizes.max_batch_tokens
                    shapes = [
                        BatchShape.of([(min(size, num_tokens - start), start)], int(start + size >= num_tokens))
                        for start in range(0, num_tokens, size)
                    ]
                    self._row("prefill", shapes, seconds, batch=1, context=0, tokens=num_tokens)

    def mixed(self) -> None:
        """Continuous batching through the engine: all requests wait at first; none ends before its length."""
        what, (count, low, high) = f"{self.format}: continuous batching", self._sizes.mixed
        engine, runner = self._engine, self._engine.runner
        with self._report.telling(what):
            assert isinstance(runner, RecordedRunner)
            self._warm()
            runner.shapes.clear()
            records: list[StepRecord] = []
            engine.accountant.on_settled = lambda steps, charges: records.extend(steps)
            num_prompt = self._add("mixed", count, low, high)
            begin = time.perf_counter()
            num_outputs = self._answer()
            seconds = time.perf_counter() - begin
            if engine.has_unfinished:
                self._report.problem(what, f"cut off after {num_outputs:,} output tokens: time was short")
            else:
                self._report_mixed(records, runner.shapes, seconds, num_prompt, num_outputs)

    def _warm(self) -> None:
        """The kernels of batches of prompts and decodes, of few sequences and of many, which are compiled when they are
        first met."""
        for part in range(2):
            self._add(f"warm-{part}", *_WARM_REQUESTS)
            self._engine.step()
        self._answer()

    def _add(self, name: str, count: int, low: int, high: int) -> int:
        """So many requests, their prompts and answers of low..high random tokens. Tokens of all prompts."""
        numbers, num_prompt = random.Random(name), 0
        for index in range(count):
            ids = tuple(numbers.randrange(self._spec.vocab_size) for _ in range(numbers.randint(low, high)))
            num_prompt += len(ids)
            params = SamplingParams(temperature=0.0, max_tokens=numbers.randint(low, high), ignore_eos=True)
            self._engine.add(Request(f"{name}-{index}", ids, params, seed=index))
        return num_prompt

    def _answer(self) -> int:
        """All requests, as far as time is left. Tokens that came."""
        num_outputs = 0
        while self._engine.has_unfinished and self._report.seconds_left > 0:
            for delta in self._engine.step():
                num_outputs += len(delta.token_ids)
                if delta.finish_reason == "error":
                    raise RuntimeError(str(delta.stop_reason))
        return num_outputs

    def _report_mixed(
        self, records: list[StepRecord], shapes: list[BatchShape], seconds: float, num_prompt: int, num_outputs: int
    ) -> None:
        priced = StepCost.of(self._spec)
        assert priced is not None
        costs = [priced.cost(shape) for shape in shapes]
        self._report.row(
            "mixed",
            format=self.format,
            seconds=seconds,
            prompt_tokens=num_prompt,
            output_tokens=num_outputs,
            steps=[[cost.moved_bytes, dict(cost.flops)] for cost in costs],
            limit_seconds=sum(record.limit_seconds for record in records) or None,
            forecast_seconds=sum(record.forecast_seconds for record in records) or None,
            host_seconds=sum(record.host for record in records) or None,
        )

    def _row(self, section: str, shapes: list[BatchShape], seconds: float, **figures: Any) -> None:
        cost = sum((self._spec.cost(shape) for shape in shapes), Cost())
        self._report.row(
            section,
            format=self.format,
            seconds=seconds,
            moved_bytes=cost.moved_bytes,
            flops=dict(cost.flops),
            forecast_seconds=_forecast_seconds(self._engine, shapes),
            **figures,
        )


def _forecast_seconds(engine: Engine, shapes: list[BatchShape]) -> float | None:
    calibration = engine.plan.calibration
    if calibration is None:
        return None
    try:
        return sum(forecast(engine.plan.spec, shape, calibration).seconds for shape in shapes)
    except FarthingError:  # a rate that was not measured
        return None
