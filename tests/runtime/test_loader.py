"""Loading weights: every tensor as it was saved, in any dtype, in one file or many, from safetensors or GGUF; whatever
does not match the description refused by name before memory is taken."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import CASES, Case, load, make_reference, save_reference

from farthing.errors import CheckpointError
from farthing.kernels.weight import TORCH_DTYPES, Weight, dequantize, quantize
from farthing.models.auto import describe, read_config
from farthing.models.spec import ModelSpec, Precision
from farthing.quantization.base import WeightFormat, formats, resolve
from farthing.runtime import loader
from farthing.runtime.device import Memory
from farthing.runtime.loader import load_weights, random_weights

Tensors = dict[str, torch.Tensor]

TINY = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 80}
PLAIN = Case("plain", "Llama", TINY)
TIED = Case("tied", "Llama", {**TINY, "tie_word_embeddings": True})
Q_PROJ, NORM, HEAD, EMBEDDING = (
    "model.layers.1.self_attn.q_proj.weight", "model.norm.weight", "lm_head.weight", "model.embed_tokens.weight",
)  # fmt: skip


def saved(folder: Path, case: Case = PLAIN) -> Path:
    return save_reference(make_reference(case), folder)


def changed(folder: Path, change: Callable[[Tensors], object]) -> Path:
    """The checkpoint in the folder with its tensors changed."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    return folder


def described(folder: Path, name: str = "fp32") -> ModelSpec:
    return describe(read_config(folder), Precision.of(resolve(name, "cpu")).on_device("cpu"))


def loaded(folder: Path, name: str = "fp32") -> Tensors:
    return load_weights(described(folder, name), folder, Memory(torch.device("cpu")), lambda done, total: None)[0]


def stored(tensors: Tensors, name: str, weight_format: WeightFormat) -> torch.Tensor:
    """What a rounded matrix of 32 columns stands for."""
    zeros = tensors.get(name.replace(".weight", ".weight_zero"))
    return dequantize(Weight(weight_format, 32, tensors[name], tensors[f"{name}_scale"], zero_NG=zeros))


def refusal(folder: Path, name: str = "fp32") -> str:
    """What the loader says, in one line, before it takes memory."""
    memory = Memory(torch.device("cpu"))
    with pytest.raises(CheckpointError) as refused:
        load_weights(described(folder, name), folder, memory, lambda done, total: None)
    assert memory.bytes_by_use == {}
    assert len(str(refused.value).splitlines()) == 1
    return str(refused.value)


def logits(path: Path) -> torch.Tensor:
    """Of every position of one prompt."""
    return load(path).all_logits(list(range(3, 73)))


def same(first: Tensors, second: Tensors) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


# --- as it was saved


def test_every_tensor_is_the_one_that_was_saved(tmp_path: Path) -> None:
    reference = make_reference(PLAIN)
    save_reference(reference, tmp_path)
    assert same(loaded(tmp_path), dict(reference.named_parameters()))


def test_shards_load_as_one_file_does(tmp_path: Path) -> None:
    reference = make_reference(PLAIN)
    save_reference(reference, tmp_path / "one")
    save_reference(reference, tmp_path / "many", max_shard_size="20KB")
    assert len(list((tmp_path / "many").glob("*.safetensors"))) > 2
    assert same(loaded(tmp_path / "many"), loaded(tmp_path / "one"))


@pytest.mark.parametrize("stored", [torch.float64, torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", ["fp32", "bf16", "fp16"])
def test_a_file_of_any_dtype_loads_into_any_other(stored: torch.dtype, name: str, tmp_path: Path) -> None:
    changed(saved(tmp_path), lambda tensors: tensors.update({key: x.to(stored) for key, x in tensors.items()}))
    file = load_file(tmp_path / "model.safetensors")
    assert same(loaded(tmp_path, name), {key: x.to(TORCH_DTYPES[name]) for key, x in file.items()})


@pytest.mark.parametrize("name", sorted(set(formats()) - {"fp32", "bf16", "fp16"}))
def test_a_quantized_load_is_the_quantization_of_the_file(name: str, tmp_path: Path) -> None:
    file = load_file(saved(tmp_path) / "model.safetensors")
    found, weight_format = loaded(tmp_path, name), formats()[name]
    assert torch.equal(stored(found, Q_PROJ, weight_format), dequantize(quantize(file[Q_PROJ], weight_format)))
    assert torch.equal(found[NORM], file[NORM].bfloat16())
    assert torch.equal(found[EMBEDDING], file[EMBEDDING].bfloat16())
    if weight_format.activation_bits == 16:
        assert torch.equal(found[HEAD], file[HEAD].bfloat16())
    else:
        assert torch.equal(stored(found, HEAD, formats()["w8a8"]), dequantize(quantize(file[HEAD], formats()["w8a8"])))


@pytest.mark.parametrize("name", ["w8a8", "w4a8"])
def test_a_tied_head_that_is_rounded_is_a_copy_of_the_embedding_which_stays(name: str, tmp_path: Path) -> None:
    file = load_file(saved(tmp_path, TIED) / "model.safetensors")
    found, drawn_ones = loaded(tmp_path, name), drawn(described(tmp_path, name), 0)
    for tensors, embedding in ((found, file[EMBEDDING]), (drawn_ones, drawn(described(tmp_path), 0)[EMBEDDING])):
        expected = dequantize(quantize(embedding, formats()["w8a8"]))
        assert torch.equal(stored(tensors, HEAD, formats()["w8a8"]), expected)
        assert torch.equal(tensors[EMBEDDING], embedding.bfloat16())


@pytest.mark.parametrize("name", ["fp32", "w8a8", "w4a16"])
def test_matrices_that_are_read_in_pieces_are_the_whole_ones(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = loaded(saved(tmp_path), name)
    monkeypatch.setattr(loader, "_PIECE_VALUES", 100)  # three rows
    assert same(loaded(tmp_path, name), whole)


@pytest.mark.parametrize("name", ["fp32", "bf16", "w8a8", "w4a16"])
def test_progress_counts_to_the_bytes_that_were_taken(name: str, tmp_path: Path) -> None:
    spec, memory, steps = described(saved(tmp_path), name), Memory(torch.device("cpu")), list[tuple[int, int]]()
    tensors, _ = load_weights(spec, tmp_path, memory, lambda done, total: steps.append((done, total)))
    assert [done for done, _ in steps] == sorted(done for done, _ in steps) and steps[-1] == (spec.weight_bytes,) * 2
    assert memory.bytes_by_use == {"weights": spec.weight_bytes}
    assert sum(tensor.nbytes for tensor in tensors.values()) == spec.weight_bytes


def test_a_second_copy_of_a_tied_head_and_old_buffers_are_let_be(tmp_path: Path) -> None:
    without = loaded(saved(tmp_path, TIED))
    assert HEAD not in without

    def add(tensors: Tensors) -> None:
        tensors[HEAD] = tensors[EMBEDDING].clone()
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(4)

    assert same(loaded(changed(tmp_path, add)), without)


# --- what does not match


@pytest.mark.parametrize("name", [Q_PROJ, NORM, HEAD, EMBEDDING])
def test_a_missing_tensor_is_named(name: str, tmp_path: Path) -> None:
    assert f"has no tensor {name}," in refusal(changed(saved(tmp_path), lambda tensors: tensors.pop(name)))


@pytest.mark.parametrize("shape", [(31, 32), (32, 31), (32,), (32, 32, 1), (1024,)], ids=str)
@pytest.mark.parametrize("format_name", ["fp32", "w8a8", "w4a16"])
def test_a_tensor_of_another_shape_is_named_with_both_shapes(
    shape: tuple[int, ...], format_name: str, tmp_path: Path
) -> None:
    changed(saved(tmp_path), lambda tensors: tensors.update({Q_PROJ: torch.zeros(shape)}))
    text = refusal(tmp_path, format_name)
    assert Q_PROJ in text and str(list(shape)) in text and "[32, 32]" in text


@pytest.mark.parametrize("name", ["model.layers.2.mlp.up_proj.weight", "model.layers.0.self_attn.q_proj.bias", "x"])
def test_a_tensor_that_no_one_asked_for_is_named(name: str, tmp_path: Path) -> None:
    text = refusal(changed(saved(tmp_path), lambda tensors: tensors.update({name: torch.zeros(2)})))
    assert "holds 1 tensors" in text and name in text


@pytest.mark.parametrize("format_name", ["fp32", "w8a8"])
def test_a_scale_beside_a_weight_is_never_ignored(format_name: str, tmp_path: Path) -> None:
    changed(saved(tmp_path), lambda tensors: tensors.update({f"{Q_PROJ}_scale": torch.ones(32)}))
    assert f"{Q_PROJ}_scale" in refusal(tmp_path, format_name)


@pytest.mark.parametrize("dtype", [torch.int8, torch.uint8, torch.int32, torch.bool, torch.float8_e4m3fn], ids=str)
def test_weights_that_are_stored_as_codes_are_refused(dtype: torch.dtype, tmp_path: Path) -> None:
    changed(saved(tmp_path), lambda tensors: tensors.update({Q_PROJ: torch.ones(32, 32).to(dtype)}))
    text = refusal(tmp_path)
    assert Q_PROJ in text and "is stored as" in text


@pytest.mark.parametrize("poison", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("name", [Q_PROJ, NORM, EMBEDDING])
@pytest.mark.parametrize("format_name", ["fp32", "bf16", "w8a8", "w4a16", "fp8"])
def test_weights_that_are_not_finite_are_named(poison: float, name: str, format_name: str, tmp_path: Path) -> None:
    changed(saved(tmp_path), lambda tensors: tensors[name].view(-1)[-1:].fill_(poison))
    with pytest.raises(CheckpointError, match=f"{name} holds NaN, infinity"):
        loaded(tmp_path, format_name)


@pytest.mark.parametrize("name", [Q_PROJ, NORM])
def test_numbers_that_16_bits_do_not_hold_are_refused_and_not_made_infinite(name: str, tmp_path: Path) -> None:
    changed(saved(tmp_path), lambda tensors: tensors[name].view(-1)[:1].fill_(-1e5))
    assert loaded(tmp_path, "bf16")[name].isfinite().all()
    with pytest.raises(CheckpointError, match=f"{name} holds.*beyond fp16.*--format bf16"):
        loaded(tmp_path, "fp16")


def test_factors_that_a_config_names_and_the_file_lacks_are_missed(tmp_path: Path) -> None:
    config = json.loads((saved(tmp_path) / "config.json").read_text())
    config["rope_parameters"] = {"rope_type": "factors", "factors": "rope_freqs.weight", "rope_theta": 10000.0}
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert "rope_freqs.weight" in refusal(tmp_path)
    for bad in (torch.zeros(4), torch.ones(3), torch.full((4,), float("nan"))):
        changed(tmp_path, lambda tensors, bad=bad: tensors.update({"rope_freqs.weight": bad}))
        with pytest.raises(CheckpointError, match="must hold 4 positive factors"):
            loaded(tmp_path)


# --- random


def drawn(spec: ModelSpec, seed: int) -> Tensors:
    return random_weights(spec, seed, Memory(torch.device("cpu")))[0]


@pytest.mark.parametrize("name", ["fp32", "w8a8", "w4a16", "fp8"])
def test_random_weights_have_every_described_tensor_and_come_from_the_seed_alone(name: str, tmp_path: Path) -> None:
    spec = described(saved(tmp_path, TIED), name)
    first = drawn(spec, 0)
    assert {key: tuple(x.shape) for key, x in first.items()} == {
        key: x.shape for key, x in spec.stored_tensors().items()
    }
    torch.rand(7)  # a global generator has no part in it
    assert same(drawn(spec, 0), first)
    for other in (1, -1, 2**32, 2**64 + 5):
        assert not torch.equal(drawn(spec, other)[Q_PROJ], first[Q_PROJ])


@pytest.mark.parametrize("name", ["fp32", "w4a16"])
def test_random_weights_tell_how_far_they_are(name: str, tmp_path: Path) -> None:
    spec, told = described(saved(tmp_path, TIED), name), list[tuple[int, int]]()
    random_weights(spec, 0, Memory(torch.device("cpu")), progress=lambda done, total: told.append((done, total)))
    assert len(told) > len(spec.layers) and told == sorted(told)
    assert told[-1] == (spec.weight_bytes, spec.weight_bytes) and {total for _, total in told} == {spec.weight_bytes}


def test_random_weights_keep_activations_near_one(tmp_path: Path) -> None:
    tensors = drawn(described(saved(tmp_path)), 3)
    assert torch.equal(tensors[NORM], torch.ones(32))
    assert tensors[Q_PROJ].std() == pytest.approx(32**-0.5, rel=0.1) and tensors[HEAD].std() == pytest.approx(
        32**-0.5, rel=0.1
    )
    assert not torch.equal(tensors[Q_PROJ], tensors[Q_PROJ.replace("layers.1", "layers.0")])


# --- GGUF

_GGUF_NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}


def save_gguf(reference: Any, path: Path, rope_factors: torch.Tensor | None = None) -> Path:
    """The transformers LLaMA as GGUF, fp32: names, and the rotary halves of q and k interleaved, as converters do."""
    config = reference.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    for name, parameter in reference.named_parameters():
        tensor, (part, kind) = parameter.detach(), name.rsplit(".", 1)
        for projection, heads in (("q_proj", config.num_attention_heads), ("k_proj", config.num_key_value_heads)):
            if part.endswith(projection):
                tensor = tensor.unflatten(0, (heads, 2, -1)).transpose(1, 2).reshape(tensor.shape)
        if part.startswith("model.layers."):
            _, _, layer, part = part.split(".", 3)
            writer.add_tensor(f"blk.{layer}.{_GGUF_NAMES[part]}.{kind}", tensor.contiguous().numpy())
        else:
            writer.add_tensor(f"{_GGUF_NAMES[part]}.{kind}", tensor.numpy())
    if rope_factors is not None:
        writer.add_tensor("rope_freqs.weight", rope_factors.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("name", ["llama-1-mha", "llama-2-gqa", "llama-mqa", "llama-tied", "llama-attention-bias"])
def test_a_gguf_of_a_model_gives_the_logits_of_its_safetensors(name: str, tmp_path: Path) -> None:
    reference = make_reference(next(case for case in CASES if case.name == name))
    save_reference(reference, tmp_path)
    save_gguf(reference, tmp_path / "model.gguf")
    assert torch.equal(logits(tmp_path / "model.gguf"), logits(tmp_path))


def test_rope_factors_in_a_gguf_are_the_scaling_of_llama_3(tmp_path: Path) -> None:
    reference = make_reference(next(case for case in CASES if case.name == "llama-3.1"))
    save_reference(reference, tmp_path)
    scaled = torch.tensor(described(tmp_path).rope.frequencies(), dtype=torch.float64)
    plain = reference.config.rope_parameters["rope_theta"] ** (-torch.arange(8, dtype=torch.float64) / 8)
    assert not torch.allclose(plain, scaled)
    save_gguf(reference, tmp_path / "model.gguf", plain / scaled)
    assert torch.allclose(logits(tmp_path / "model.gguf"), logits(tmp_path), atol=1e-4)
