"""A token never depends on its batch: alone, together, shuffled, chunked, cached or preempted, all is the same.

Models and prompts are fixed by seed, and the gap between the two largest logits is above 1e-4 at every step, so that
equality is not luck.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from native_kernels import native
from tiny_models import CASES, Loaded, load, make_reference, save_reference

from farthing.kernels.reference import ReferenceKernels
from farthing.kernels.vendor import VendorKernels
from farthing.sampling_params import SamplingParams

NAMES = ("llama-3.1", "mistral-window", "qwen2-tied", "qwen3")
NUM_TOKENS = 24
SHARED = [1, *range(30, 62)]
PROMPTS = {
    0: [1, 5, 9],
    1: [*SHARED, 7, 7, 8],
    2: [*SHARED, 200, 3],
    3: [1, *range(100, 240, 2)],
    4: [4],
    5: [*SHARED, 200, 3],
    6: [1, *range(50, 300, 5)],
}
GREEDY = SamplingParams(temperature=0.0, max_tokens=NUM_TOKENS, logprobs=2)
SAMPLED = replace(GREEDY, temperature=1.3, top_p=0.95, top_k=80, repetition_penalty=1.1)
PARAMS = {"greedy": GREEDY, "sampled": SAMPLED}

Run = dict[int, tuple[list[int], list[float]]]  # by sequence: tokens, and the log-probability of each


def run(loaded: Loaded, params: SamplingParams, order: list[int], *, together: bool) -> tuple[Run, float]:
    """Tokens and log-probabilities of every prompt, and the smallest gap between the two most likely tokens."""
    found: Run = {seq_id: ([], []) for seq_id in order}
    gap = float("inf")
    for group in [order] if together else [[seq_id] for seq_id in order]:
        for seq_id in group:
            loaded.add(seq_id, PROMPTS[seq_id], params)
        for seq_id, token in loaded.steps():
            told = loaded.runner.logprobs[seq_id]
            found[seq_id][0].append(token)
            found[seq_id][1].append(told.logprob)
            gap = min(gap, told.top[0][1] - told.top[1][1])
    return found, gap


def assert_same(found: Run, expected: Run, tolerance: float) -> None:
    for seq_id, (tokens, logprobs) in expected.items():
        assert found[seq_id][0] == tokens
        assert found[seq_id][1] == pytest.approx(logprobs, abs=tolerance)


ROUTES: dict[str, dict[str, Any]] = {
    "together": {"together": True},
    "shuffled": {"together": True, "order": [3, 6, 0, 5, 2, 4, 1]},
    "chunked": {"together": True, "max_batch_tokens": 11, "max_num_seqs": 11},
    "cached": {"together": False, "prefix_caching": True, "warm": True},
    "preempted": {"together": True, "num_blocks": 24, "preempts": True},
}

BACKENDS = {  # and the format of the KV cache
    "reference": (ReferenceKernels, "auto"),
    "vendor": (VendorKernels, "auto"),
    "native": (native, "auto"),
    "native int8": (native, "int8"),
}


@dataclass(frozen=True)
class Alone:
    """A checkpoint, and what each prompt gives when nothing else is in the batch and nothing is cached."""

    folder: Path
    kernels: Callable[[], ReferenceKernels]
    kv_format: str
    runs: dict[str, Run]


@pytest.fixture(scope="module", params=BACKENDS, ids=BACKENDS.keys())
def backend(request: pytest.FixtureRequest) -> tuple[Callable[[], ReferenceKernels], str]:
    return BACKENDS[request.param]


@pytest.fixture(scope="module", params=NAMES)
def alone(request: pytest.FixtureRequest, backend: Any, tmp_path_factory: pytest.TempPathFactory) -> Alone:
    kernels, kv_format = backend
    case = next(case for case in CASES if case.name == request.param)
    folder = tmp_path_factory.mktemp("model")
    # A smaller spread of the weights keeps logits near 1, where 1e-5 means something.
    save_reference(make_reference(replace(case, options={**case.options, "initializer_range": 0.1})), folder)
    runs = {}
    for kind, params in PARAMS.items():
        loaded = load(folder, kernels=kernels(), kv_format=kv_format, prefix_caching=False)
        runs[kind], gap = run(loaded, params, list(PROMPTS), together=False)
        assert gap > 1e-4, "choose another seed: a near tie would make equality luck"
    return Alone(folder, kernels, kv_format, runs)


@pytest.mark.parametrize("kind", PARAMS)
@pytest.mark.parametrize("route", ROUTES.values(), ids=ROUTES.keys())
def test_tokens_and_logits_do_not_depend_on_the_way_they_are_batched(
    alone: Alone, route: dict[str, Any], kind: str
) -> None:
    """1e-5 on the vendor's libraries; on backends that promise so, to the last bit."""
    sizes = {key: value for key, value in route.items() if key in ("max_batch_tokens", "max_num_seqs", "num_blocks")}
    caching = route.get("prefix_caching", False)
    kernels, kv_format = alone.kernels(), alone.kv_format
    loaded = load(alone.folder, kernels=kernels, kv_format=kv_format, prefix_caching=caching, **sizes)
    if route.get("warm"):
        for seq_id in PROMPTS:
            loaded.add(1000 + seq_id, PROMPTS[seq_id], PARAMS[kind])
        list(loaded.steps())
    found, _ = run(loaded, PARAMS[kind], route.get("order", list(PROMPTS)), together=route["together"])
    assert_same(found, alone.runs[kind], tolerance=0.0 if kernels.batch_invariant else 1e-5)
    if route.get("preempts"):
        assert loaded.scheduler.stats.num_preemptions > 0
    if route.get("warm"):
        assert loaded.scheduler.stats.num_cached_tokens > 100


def test_the_reference_gives_the_same_bits_on_any_number_of_threads(tmp_path: Path) -> None:
    save_reference(make_reference(CASES[1]), tmp_path)
    before = torch.get_num_threads()
    found: list[Run] = []
    try:
        for num_threads in (1, 2):
            torch.set_num_threads(num_threads)
            found.append(run(load(tmp_path), GREEDY, list(PROMPTS)[:3], together=True)[0])
    finally:
        torch.set_num_threads(before)
    assert_same(found[1], found[0], tolerance=0.0)
