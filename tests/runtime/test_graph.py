"""A step that was recorded once and is replayed: what an ordinary run computes, whatever ran before it."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from native_kernels import native
from tiny_models import CASES, Loaded, load, make_reference, save_reference

from farthing.kernels.reference import ReferenceKernels
from farthing.runtime.decoder import Decoder
from farthing.runtime.graph import TapedDecoder
from farthing.runtime.inputs import StepInputs
from farthing.scheduler.batch import Batch, BatchItem

BLOCK_SIZE = 8


def ids(count: int, seed: int) -> tuple[int, ...]:
    return tuple(torch.randint(3, 300, (count,), generator=torch.Generator().manual_seed(seed)).tolist())


def item(seq_id: int, start: int, token_ids: tuple[int, ...]) -> BatchItem:
    """Of a sequence that owns 20 blocks of the cache, far from those of others."""
    blocks = tuple(range(seq_id * 20, seq_id * 20 + -(-(start + len(token_ids)) // BLOCK_SIZE)))
    return BatchItem(seq_id, start, token_ids, blocks, samples=True, output_index=0)


STEPS = (  # prefill, tokens one at a time, both at once, more and fewer sequences than before
    [item(0, 0, ids(90, 0)), item(1, 0, ids(7, 1))],
    [item(0, 90, ids(1, 2))],
    [item(1, 7, ids(1, 3)), item(0, 91, ids(1, 4)), item(2, 0, ids(33, 5))],
    [
        item(2, 33, ids(1, 6)),
        item(3, 0, ids(1, 7)),
        item(4, 0, ids(150, 8)),
        item(1, 8, ids(1, 9)),
        item(0, 92, ids(5, 10)),
    ],
    [item(3, 1, ids(1, 11))],
    [item(seq, start, ids(1, 12 + seq)) for seq, start in ((4, 150), (3, 2), (2, 34), (1, 9), (0, 97))],
)


def load_model(folder: Path, kernels: ReferenceKernels, dtype: str = "fp32", kv_format: str = "auto") -> Loaded:
    return load(folder, kernels=kernels, dtype=dtype, kv_format=kv_format, block_size=BLOCK_SIZE)


def tapes(loaded: Loaded) -> TapedDecoder:
    steps = loaded.runner.steps
    assert isinstance(steps, TapedDecoder)
    return steps


def run(loaded: Loaded, *, poisoned: bool = False) -> list[torch.Tensor]:
    """Logits of each of STEPS. `poisoned`: no step finds anything of another but the KV cache."""
    found = []
    for number, items in enumerate(STEPS):
        if poisoned:
            for tape in (tapes(loaded)._hidden, tapes(loaded)._logits):
                tape.arena.fill_(0xFF)
        with torch.inference_mode():
            x_RH = loaded.runner.steps.hidden(loaded.runner.buffers.fill(Batch(number, tuple(items))))
            found.append(loaded.runner.steps.logits(x_RH).clone())
    return found


def folder_of(name: str, folder: Path) -> Path:
    """With weights so small that logits stay near 1, where a tolerance means something."""
    case = next(case for case in CASES if case.name == name)
    return save_reference(make_reference(replace(case, options={**case.options, "initializer_range": 0.1})), folder)


@pytest.mark.parametrize("name", [case.name for case in CASES])
def test_a_replay_gives_the_logits_of_the_reference(name: str, tmp_path: Path) -> None:
    folder = folder_of(name, tmp_path)
    expected, found = run(load_model(folder, ReferenceKernels())), run(load_model(folder, native()))
    for logits_RV, other_RV in zip(found, expected, strict=True):
        assert logits_RV.dtype == torch.float32 and logits_RV.shape == other_RV.shape
        assert torch.allclose(logits_RV, other_RV, rtol=0, atol=1e-4 * float(other_RV.abs().max()))


@pytest.mark.parametrize("name", ["llama-2-gqa", "qwen3-window"])
def test_a_replay_with_the_cache_in_int8_gives_the_logits_of_the_reference(name: str, tmp_path: Path) -> None:
    """Of equal rows the codes are equal; these differ in their last bits, and now and then a code does."""
    folder = folder_of(name, tmp_path)
    plain, expected, found = (
        run(load_model(folder, kernels, kv_format=kv_format))
        for kernels, kv_format in ((ReferenceKernels(), "auto"), (ReferenceKernels(), "int8"), (native(), "int8"))
    )
    for plain_RV, logits_RV, other_RV in zip(plain, expected, found, strict=True):
        top = float(plain_RV.abs().max())
        assert not torch.equal(logits_RV, plain_RV)
        assert torch.allclose(logits_RV, plain_RV, rtol=0, atol=0.05 * top)
        assert torch.allclose(other_RV, logits_RV, rtol=0, atol=2e-3 * top)


@pytest.mark.parametrize(
    ("dtype", "kv_format"),
    [("fp32", "auto"), ("bf16", "auto"), ("w8a8", "auto"), ("w4a8", "auto"), ("fp32", "int8"), ("w8a8", "int8")],
)
@pytest.mark.parametrize("num_threads", [1, 2, 3])
def test_a_replay_is_bit_equal_whatever_the_last_one_left_behind(
    dtype: str, kv_format: str, num_threads: int, tmp_path: Path
) -> None:
    folder = folder_of("qwen3-window", tmp_path)
    clean = run(load_model(folder, native(num_threads=1), dtype, kv_format))
    assert all(logits_RV.isfinite().all() for logits_RV in clean)
    again = run(load_model(folder, native(num_threads=num_threads), dtype, kv_format), poisoned=True)
    assert all(map(torch.equal, again, clean))


@pytest.mark.parametrize("dtype", ["fp32", "w8a8"])
def test_a_step_after_others_is_the_step_of_a_model_that_did_nothing_before(dtype: str, tmp_path: Path) -> None:
    folder, prompts = folder_of("llama-3.2-tied", tmp_path), [list(ids(count, count)) for count in (1, 130, 2, 64, 5)]
    busy = load_model(folder, native(), dtype)
    for prompt in prompts:
        assert torch.equal(busy.all_logits(prompt), load_model(folder, native(), dtype).all_logits(prompt))


def test_the_largest_step_that_the_buffers_hold_is_replayed_as_well(tmp_path: Path) -> None:
    folder = folder_of("llama-2-gqa", tmp_path)
    limits = {"max_batch_tokens": 48, "max_num_seqs": 3}
    items = (item(0, 0, ids(40, 1)), item(1, 0, ids(7, 2)), item(2, 0, ids(1, 3)))
    found = []
    for kernels in (ReferenceKernels(), native()):
        loaded = load(folder, kernels=kernels, block_size=BLOCK_SIZE, **limits)
        with torch.inference_mode():
            x_RH = loaded.runner.steps.hidden(loaded.runner.buffers.fill(Batch(0, items), {0, 1, 2}))
            assert x_RH.shape[0] == 48
            found.append(loaded.runner.steps.logits(x_RH[-3:]))
    assert torch.allclose(found[1], found[0], rtol=0, atol=1e-4 * float(found[0].abs().max()))


def test_an_operator_that_has_no_kernel_is_refused_when_the_step_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, hidden = folder_of("llama-2-one-layer", tmp_path), Decoder.hidden

    def with_an_operator_of_its_own(decoder: Decoder, inputs: StepInputs) -> torch.Tensor:
        return hidden(decoder, inputs).tanh()

    monkeypatch.setattr(Decoder, "hidden", with_an_operator_of_its_own)
    load_model(folder, ReferenceKernels())
    with pytest.raises(AssertionError, match=r"tanh.* has no kernel"):
        load_model(folder, native())
