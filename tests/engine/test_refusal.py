"""A model that does not fit is refused before it is loaded: the arithmetic, who else holds memory, what would fit."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from farthing.engine.config import EngineConfig
from farthing.engine.fit import engine_memory, resolve_sizes, resolve_spec
from farthing.engine.plan import plan_engine
from farthing.engine.refusal import Planned, refusal, what_would_fit
from farthing.engine.room import Room
from farthing.errors import DoesNotFitError
from farthing.models.auto import config_of
from farthing.models.graph_memory import graph_bytes, history_bytes
from farthing.models.reference import find_model

GIB = 2**30
LLAMA = config_of(find_model("llama-3.1-8b"))


def card(free_gib: float, total_gib: float | None = None) -> Room:
    """A GPU of which a process may take so much, 600 MiB of it for its context."""
    return Room("cuda", int((total_gib or free_gib) * GIB), int(free_gib * GIB), 600 * 2**20)


def planned(config: EngineConfig, room: Room) -> Planned:
    spec, context = resolve_spec(LLAMA, config, "8b", kind=room.kind, plain_dtype="bf16")
    config = resolve_sizes(config, spec, room, name="NVIDIA GeForce RTX 4090", calibration=None)
    return spec, context, engine_memory(spec, context, config, room, widens=False, captures=True)


def refused(config: EngineConfig, room: Room) -> DoesNotFitError:
    with pytest.raises(DoesNotFitError) as error:
        planned(config, room)
    spec, context = resolve_spec(LLAMA, config, "8b", kind=room.kind, plain_dtype="bf16")
    seats = config.max_num_seqs or 64
    fits = what_would_fit(config, lambda other: planned(other, room), context=context, max_num_seqs=seats)
    what = f"8b does not fit cuda in {spec.precision.format.name}"
    return refusal(error.value, what=what, held=room.held_text, fits=fits)


def test_the_plan_of_a_gpu_has_a_line_for_its_graphs_and_stays_below_what_is_free() -> None:
    spec, context, memory = planned(EngineConfig(), card(24))
    pool_tokens = memory.budget_bytes // spec.kv_bytes_per_token
    limits = {"max_num_seqs": 64, "max_model_len": context, "pool_tokens": pool_tokens}
    graphs = graph_bytes(spec, **limits, widens=False)
    assert memory.graph_bytes == graphs + history_bytes(spec.vocab_size, 64) > graphs > 0
    assert memory.total_bytes <= memory.budget_bytes == int(24 * GIB * 0.9)
    parts = (memory.weights_bytes, memory.kv_bytes, memory.activation_bytes, memory.graph_bytes, memory.reserve_bytes)
    assert sum(parts) == memory.total_bytes


def test_a_share_and_a_size_of_memory_are_those_of_the_gpu_and_never_more_than_is_free() -> None:
    assert planned(EngineConfig(memory="20GiB"), card(24))[2].budget_bytes == 20 * GIB
    assert planned(EngineConfig(memory="85%"), card(24))[2].budget_bytes == int(0.85 * 24 * GIB)
    assert planned(EngineConfig(memory="40GiB"), card(23, 24))[2].budget_bytes == 23 * GIB
    assert Room("cpu", 8 * GIB, 6 * GIB, 0).budget("7GiB") == 7 * GIB, "a computer may swap"


def test_a_refusal_names_a_narrower_format_with_the_room_it_leaves() -> None:
    text = str(refused(EngineConfig(), card(12)))
    assert text.startswith("8b does not fit cuda in bf16: weights 14.96 GiB + KV of one sequence")
    assert "+ graphs " in text and "+ reserve 600.00 MiB > 10.80 GiB usable" in text
    assert "the largest that fit: --format int8 (w8a16: KV room for " in text and "sequences of 4,096 tokens)" in text
    assert "--context" not in text and len(text.splitlines()) == 1


def test_a_refusal_names_a_shorter_context_and_fewer_sequences_where_these_help() -> None:
    long = refused(EngineConfig(context=131072, format="bf16"), card(24)).fix
    context = int(long.split("--context ")[1].split(";")[0])
    assert context % 256 == 0
    assert planned(EngineConfig(context=context), card(24))[2].kv_tokens >= context
    with pytest.raises(DoesNotFitError):
        planned(EngineConfig(context=context + 256), card(24))
    many = refused(EngineConfig(max_num_seqs=1024, max_batch_tokens=1024), card(19)).fix
    count = int(many.split("--max-num-seqs ")[1].split(";")[0])
    planned(EngineConfig(max_num_seqs=count, max_batch_tokens=1024), card(19))


def test_a_refusal_falls_back_on_everything_that_is_small_and_then_on_other_hardware() -> None:
    small = refused(EngineConfig(context=65536), card(8)).fix
    assert "--format int4 --kv-format int8 --context" in small or "--format int4 (w4a16" in small
    assert "more memory" in refused(EngineConfig(), card(4)).fix


def test_a_refusal_says_what_others_hold_of_the_gpu() -> None:
    assert "(other processes hold 12.00 GiB of its 24.00 GiB)" in str(refused(EngineConfig(), card(12, 24)))
    assert "other processes" not in str(refused(EngineConfig(), card(11.5, 12)))
    assert Room("cpu", 24 * GIB, 2 * GIB, 0).held_text == ""


def test_an_engine_refuses_with_what_fits_this_machine(tmp_path: Path) -> None:
    sizes = {"hidden_size": 512, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 8}
    config = {"architectures": ["LlamaForCausalLM"], **sizes, "vocab_size": 512, "max_position_embeddings": 8192}
    (tmp_path / "config.json").write_text(json.dumps(config))
    flags = EngineConfig(device="cpu", weights="random", context=8192, max_num_seqs=1)
    memory = plan_engine(str(tmp_path), flags).memory
    less = replace(flags, memory=f"{memory.total_bytes - memory.kv_bytes // 2}")
    with pytest.raises(DoesNotFitError, match=r"the largest that fit: .*--context \d+"):
        plan_engine(str(tmp_path), less)
