"""Greedy answers of the bundled model: a device's beside those of the CPU's reference, alone, in a batch, with and
without graphs (fp32, no TF32); and in bf16 with --batch-invariant, the same among each other.

Two answers need only agree as far as the two largest logits of the reference are apart: behind a near tie, either goes
on as it likes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch

from farthing.engine.config import EngineConfig
from farthing.engine.engine import Engine
from farthing.engine.plan import plan_engine
from farthing.engine.request import Request
from farthing.kernels.reference import ReferenceKernels
from farthing.runtime.decoder import Decoder
from farthing.runtime.graph import EagerDecoder, Steps
from farthing.runtime.inputs import Limits
from farthing.runtime.model_runner import ModelRunner
from farthing.sampling_params import SamplingParams
from on_gpu.reporting import Reporter

NEAR_TIE = 1e-4  # between the log-probabilities of the two most likely tokens
BATCH = 8
_MOST_TOKENS = 256  # of a step
_PROMPTS = (
    *("Once upon a time", "The king said", "One day, a fox and a hen", "There was a little girl named Lily"),
    *("It was raining", "Tom and his dog went to", "A big red ball", "Mom said that"),
)

Answers = list[list[int]]


class EagerRunner(ModelRunner):
    """Every step call by call."""

    def captured(self, decoder: Decoder, kernels: ReferenceKernels, limits: Limits) -> Steps:
        return EagerDecoder(decoder, kernels)


@dataclass(frozen=True, slots=True)
class Agreement:
    """`tokens` were compared, of which `wrong` answers parted before a near tie."""

    tokens: int
    wrong: int


def compare(answers: Answers, expected: Answers, gaps: Sequence[Sequence[float]]) -> Agreement:
    """`gaps`: between the two most likely tokens at every step of what is expected."""
    tokens = wrong = 0
    for answer, right, gap in zip(answers, expected, gaps, strict=True):
        sure = next((step for step, apart in enumerate(gap) if apart <= NEAR_TIE), len(right))
        tokens += sure
        wrong += answer[:sure] != right[:sure]
    return Agreement(tokens, wrong)


def greedy_part(device: torch.device, num_tokens: int, report: Reporter) -> None:
    torch.backends.cuda.matmul.allow_tf32 = False
    expected, gaps = _reference(num_tokens)
    first: Answers | None = None
    ways = [("graphs", ModelRunner), ("no graphs", EagerRunner)]
    if device.type == "cpu":
        ways = [("tapes", ModelRunner)]
        report.problem("greedy, no graphs", "not measured: the kernels of a CPU compute from tapes alone")
    for weight_format in ("fp32", "bf16"):
        is_invariant = weight_format == "bf16"
        for how, runner_type in ways:
            name = f"{weight_format}{' with --batch-invariant' if is_invariant else ''}, {how}"
            if not report.has_time(f"greedy, {name}"):
                return
            engine = _engine(weight_format, device, runner_type, batch_invariant=is_invariant)
            for size, is_together in ((1, False), (BATCH, True)):
                answers = _answers(engine, num_tokens, is_together=is_together)
                if not is_invariant:
                    found, beside = compare(answers, expected, gaps), "the CPU's reference"
                elif first is None:
                    first = answers
                    continue
                else:
                    found, beside = compare(answers, first, [[1.0] * num_tokens] * len(first)), "the first, to the bit"
                report.row(
                    "greedy", what=f"{name}, batch {size}: as {beside}", compared=found.tokens, wrong=found.wrong
                )
            engine.close()


def _reference(num_tokens: int) -> tuple[Answers, list[list[float]]]:
    """Answers, and how far the two most likely tokens of each step are apart."""
    config = EngineConfig(device="cpu", format="fp32", memory="4GiB", speculation="off")
    plan = replace(plan_engine("bundled", config), kernels=ReferenceKernels())
    engine = Engine(plan, with_template=False)
    gaps: list[list[float]] = []
    answers = _answers(engine, num_tokens, is_together=True, gaps=gaps)
    engine.close()
    return answers, gaps


def _engine(
    weight_format: str, device: torch.device, runner_type: type[ModelRunner], *, batch_invariant: bool = False
) -> Engine:
    config = EngineConfig(
        device=str(device),
        format=weight_format,
        memory="4GiB",
        speculation="off",
        prefix_caching=False,
        batch_invariant=batch_invariant,
        max_num_seqs=BATCH,
        max_batch_tokens=_MOST_TOKENS,
    )
    return Engine(plan_engine("bundled", config), with_template=False, runner_type=runner_type)


def _answers(engine: Engine, num_tokens: int, *, is_together: bool, gaps: list[list[float]] | None = None) -> Answers:
    params = SamplingParams(
        temperature=0.0, max_tokens=num_tokens, ignore_eos=True, logprobs=None if gaps is None else 2
    )
    requests = [
        Request(f"greedy-{index}", tuple(engine.text.encode(prompt)), params, seed=0)
        for index, prompt in enumerate(_PROMPTS)
    ]
    found: dict[str, list[int]] = {request.request_id: [] for request in requests}
    apart: dict[str, list[float]] = {request.request_id: [] for request in requests}
    for group in [requests] if is_together else [[request] for request in requests]:
        for request in group:
            engine.add(request)
        while engine.has_unfinished:
            for delta in engine.step():
                if delta.finish_reason == "error":
                    raise RuntimeError(str(delta.stop_reason))
                found[delta.request_id] += delta.token_ids
                apart[delta.request_id] += [told.top[0][1] - told.top[1][1] for told in delta.logprobs]
    if gaps is not None:
        gaps += apart.values()
    return list(found.values())
