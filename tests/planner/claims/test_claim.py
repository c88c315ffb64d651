"""How a claim is read: numbers with units, weight format, model and hardware out of free text; what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.errors import FarthingError, UsageError
from farthing.planner.claims.claim import Claim, Size
from farthing.planner.claims.claim_text import parse_claim
from farthing.planner.claims.claimed_model import model_by_name, model_of_size
from farthing.planner.claims.weight_bits import find_bits, parse_bits

GIB = 2**30


def hardware_of(text: str) -> str | None:
    cluster = parse_claim(text).cluster
    return cluster.name if cluster else None


def model_of(text: str) -> str | None:
    model = parse_claim(text).model
    return model.name if model else None


def test_the_example_of_the_help_is_read_in_full():
    claim = parse_claim("RTX 4090, llama-3.1-8b fp8, 195 tok/s")
    assert claim.cluster is not None and claim.cluster.name == "1x rtx-4090"
    assert claim.model is not None and claim.model.name == "llama-3.1-8b"
    assert claim.weights is not None and (claim.weights.name, claim.weights.least) == ("fp8", 8.0)
    assert claim.decode_tokens_per_second == 195
    assert (claim.num_sequences, claim.batched, claim.speculation, claim.offload) == (None, False, False, False)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("on one 4090", "1x rtx-4090"),
        ("8x RTX 4090", "8x rtx-4090"),
        ("8× RTX 4090", "8x rtx-4090"),
        ("2 x 3090", "2x rtx-3090"),
        ("dual 3090", "2x rtx-3090"),
        ("four 4090s", "4x rtx-4090"),
        ("8 H200 GPUs", "8x h200-sxm"),
        ("NVIDIA GeForce RTX 5090, 8B", "1x rtx-5090"),
        ("llama-3.1-8b (Q4_K_M) on M2 Ultra", "1x m2-ultra"),
        ("A100 80GB SXM", "1x a100-80-sxm"),
        ("A100 40GB, 7B fp16", "1x a100-40-pcie"),
        ("2x8xH100", "2x8x h100-nvl"),
        ("2x RTX 3090 + 4090", "2x rtx-3090 + 1x rtx-4090"),
        ("nothing that anybody sells", None),
    ],
)
def test_hardware_is_found_in_the_words_of_a_text(text: str, name: str | None):
    assert hardware_of(text) == name


def test_a_name_of_several_cards_means_the_fastest_and_says_so():
    claim = parse_claim("7B fp16, 191 tok/s, one A100")
    assert claim.cluster is not None and claim.cluster.name == "1x a100-80-sxm"
    assert any("the fastest, a100-80-sxm, is taken" in assumption for assumption in claim.assumptions)


def test_hardware_that_the_catalogue_lacks_is_refused_with_the_nearest_names():
    with pytest.raises(UsageError, match=r"no hardware 'rtx 4080' - did you mean rtx-40"):
        parse_claim("RTX 4080, llama-3.1-8b, 50 tok/s")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("Llama 3.1 8B Instruct on a 4090", "llama-3.1-8b"),
        ("Meta-Llama-3.1-70B-Instruct-FP8 at 40 tok/s", "llama-3.1-70b"),
        ("Qwen3-30B-A3B on a 4090", "qwen3-30b-a3b"),
        ("mixtral 8x7B on a 4090", "mixtral-8x7b"),
        ("7B in fp16", "llama-2-7b"),
        ("8B Q4_K_M", "llama-3.1-8b"),
        ("13B fp16", "llama-2-13b"),
        ("70B AWQ", "llama-3.3-70b"),
        ("Gemma-31B AWQ", "a model of 31B"),
        ("Kimi-K2 (1T params)", "a model of 1T"),
        ("a 4090 alone", None),
    ],
)
def test_a_model_is_found_by_name_or_by_its_size(text: str, name: str | None):
    assert model_of(text) == name


def test_a_size_alone_says_what_it_was_taken_for():
    model = model_of_size(70e9)
    assert model.num_parameters == 70_553_706_496
    assert model.assumption == "70B is read as llama-3.3-70b, the nearest dense LLaMA"


def test_a_model_too_large_to_be_dense_reads_a_part_of_its_parameters():
    model = model_of_size(1e12)
    assert model.decode_parameters == 30e9
    assert model.assumption is not None and "3%" in model.assumption


def test_stated_active_parameters_are_believed():
    model = parse_claim("a model of 120B-A5B on a 4090").model
    assert model is not None and (model.num_parameters, model.decode_parameters) == (120e9, 5e9)
    model = parse_claim("1T MoE, 32B active, on 8x H200").model
    assert model is not None and (model.num_parameters, model.decode_parameters) == (1e12, 32e9)


def test_decode_reads_the_head_but_not_the_embedding_and_a_prompt_needs_neither():
    model = model_by_name("llama-3.1-8b")
    table = 128256 * 4096
    assert model.num_parameters - model.decode_parameters == table
    assert model.decode_parameters - model.prefill_parameters == table
    assert model.end_parameters == 2 * table
    assert model.kv_values_per_token == 2 * 32 * 8 * 128


def test_a_tied_head_is_read_though_it_is_the_embedding():
    model = model_by_name("llama-3.2-1b")
    assert model.decode_parameters == model.num_parameters
    assert model.num_parameters - model.prefill_parameters == model.end_parameters == 128256 * 2048


def test_of_experts_only_those_of_a_token_are_read():
    model = model_by_name("mixtral-8x7b")
    assert model.num_parameters == 46_702_792_704
    assert model.decode_parameters == 12_879_925_248 - 32000 * 4096


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("195 tok/s", 195),
        ("195 tokens per second", 195),
        ("72.5 t/s", 72.5),
        ("1,361.84 tokens/s", 1361.84),
        ("12.2K tok/s", 12200),
        ("~40 TPS", 40),
        ("'250 tok/s'", 250),
    ],
)
def test_speeds_are_read_in_the_spellings_of_the_field(text: str, rate: float):
    assert parse_claim(text).decode_tokens_per_second == pytest.approx(rate)


def test_prefill_and_decode_are_told_apart_by_the_nearest_word():
    claim = parse_claim("prefill 9,056 tok/s and decode 54.3 tok/s")
    assert (claim.prefill_tokens_per_second, claim.decode_tokens_per_second) == (9056, 54.3)
    claim = parse_claim("pp512: 6899 t/s, tg128: 127.7 t/s")
    assert (claim.prefill_tokens_per_second, claim.decode_tokens_per_second) == (6899, 127.7)


@pytest.mark.parametrize("text", ["6.83 ms ITL", "6.83 ms per token", "TPOT 6.83 ms", "ITL = 6.83ms"])
def test_the_time_between_tokens_is_read(text: str):
    assert parse_claim(text).tpot_seconds == pytest.approx(0.00683)


def test_the_time_to_the_first_token_is_read():
    assert parse_claim("TTFT of 350 ms").ttft_seconds == pytest.approx(0.35)
    assert parse_claim("1.2 s to first token").ttft_seconds == pytest.approx(1.2)


def test_a_speed_for_each_user_is_a_time_between_tokens():
    claim = parse_claim("64 users at 20 tok/s per user")
    assert (claim.num_sequences, claim.decode_tokens_per_second) == (64, None)
    assert claim.tpot_seconds == pytest.approx(0.05)


@pytest.mark.parametrize("text", ["batch 32", "batch size of 32", "bs=32", "32 concurrent requests", "32 users"])
def test_a_number_of_sequences_is_read(text: str):
    assert parse_claim(text).num_sequences == 32


def test_words_of_throughput_mean_many_sequences_and_single_stream_means_one():
    assert parse_claim("total throughput").batched
    assert parse_claim("single-stream").num_sequences == 1
    assert not parse_claim("at batch 1").batched


def test_lengths_are_read():
    claim = parse_claim("8k context, 128 output tokens")
    assert (claim.input_tokens, claim.output_tokens) == (8000, 128)
    assert parse_claim("with a 512-token prompt").input_tokens == 512


def test_a_size_behind_a_verb_is_of_the_weights_and_any_other_of_the_card():
    claim = parse_claim('70B AWQ in "17 GB" on a 24 GB 4090')
    assert claim.size is not None and claim.size.text == "17 GB"
    assert claim.card_size is not None and claim.card_size.text == "24 GB"


def test_speculation_and_host_memory_count_where_they_are_not_denied():
    assert parse_claim("with speculative decoding, experts offloaded to RAM").speculation
    assert parse_claim("with a draft model, 20 layers on the CPU").offload
    denied = parse_claim("no speculation named, without CPU offload, 24 GB VRAM")
    assert (denied.speculation, denied.offload) == (False, False)


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("fp16", 16), ("bf16", 16), ("F16", 16), ("fp8", 8), ("int8", 8), ("awq", 4), ("GPTQ", 4), ("Q4_K_M", 4.5),
        ("q8_0", 8.5), ("Q4", 4), ("Q6_K", 6.5625), ("IQ2_XXS", 2.0625), ("4.5 bpw", 4.5), ("6-bit", 6), ("w4a16", 4),
    ],
)  # fmt: skip
def test_formats_need_at_least_their_bits(name: str, least: float):
    bits = parse_bits(name)
    assert bits.least == least
    assert bits.usual >= bits.least


def test_the_format_of_keys_and_values_is_not_that_of_the_weights():
    assert parse_claim("27B dense, int8-KV").weights is None
    weights = parse_claim("8B AWQ with FP8 KV cache").weights
    assert weights is not None and weights.name == "awq"


def test_a_draft_model_is_not_the_model():
    model = parse_claim("70B int4 with a 7B draft, 48.4 tok/s").model
    assert model is not None and model.name == "llama-3.3-70b"


def test_stated_bits_go_before_the_name_of_a_method():
    bits, rest = find_bits("exl3 4-bit 70b, gptq-4bit-g128")
    assert bits is not None and bits.least == 4
    assert "70b" in rest


@pytest.mark.parametrize("name", ["fp99", "", "70b", "99bpw", "0.2 bpw"])
def test_formats_that_nobody_has_are_refused(name: str):
    with pytest.raises(UsageError):
        parse_bits(name)


def test_a_size_may_be_meant_in_binary_units_and_rounded():
    size = Size.parse("35 GB")
    assert size.face_bytes == 35e9
    assert (size.rounded_bytes, size.most_bytes) == (35.5e9, 35.5 * GIB)
    exact = Size.parse("79.19 GiB")
    assert (exact.face_bytes, exact.most_bytes) == (79.19 * GIB, pytest.approx(79.195 * GIB))


@pytest.mark.parametrize("text", ["", "17", "GB", "-17GB", "0GB", "17 parsecs", "nan GB", "1e9 GB"])
def test_what_is_no_size_is_refused(text: str):
    with pytest.raises(UsageError):
        Size.parse(text)


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("4090, 8B, 195 tok/s and 300 tok/s", "2 speeds"),
        ("8B and 70B on a 4090", "2 sizes of models"),
        ("8B in 17 GB, or in 18 GB", "2 sizes of the weights"),
        ("8B fp8 and fp16 on a 4090", "two weight formats"),
        ("8B on a 4090, -5 tok/s", "below zero"),
        ("8B on a 4090, 0 tok/s", "speed of 0"),
        ("0B on a 4090", "not possible"),
        ("word " * 200, "characters"),
    ],
)
def test_contradictions_and_impossible_numbers_are_one_line_each(text: str, fragment: str):
    with pytest.raises(UsageError, match=fragment) as caught:
        parse_claim(text)
    assert "\n" not in str(caught.value)


def test_what_a_flag_says_goes_before_the_text_and_zero_is_said():
    merged = parse_claim("8B on an A100, 50 tok/s").merged(Claim(num_sequences=0, decode_tokens_per_second=60.0))
    assert (merged.num_sequences, merged.decode_tokens_per_second) == (0, 60.0)
    assert merged.assumptions
    with pytest.raises(UsageError, match="num sequences is 0"):
        merged.checked()


@pytest.mark.parametrize(
    ("text", "fragment"),
    [
        ("195 tok/s on a 4090", "names no model"),
        ("llama-3.1-8b fp8, 195 tok/s", "no hardware"),
        ("llama-3.1-8b fp8 in 9 GB, 195 tok/s", "no hardware"),
        ("hello", "names no model"),
    ],
)
def test_a_missing_part_is_named_and_the_form_is_shown(text: str, fragment: str):
    with pytest.raises(UsageError, match=fragment) as caught:
        parse_claim(text).checked()
    assert "--on rtx-4090 --model llama-3.1-8b" in str(caught.value)


WORDS = st.sampled_from(
    ["RTX", "4090", "8x", "h100", "8B", "70b", "fp8", "Q4_K_M", "4.5", "bpw", "195", "tok/s", "-", ",", "ms", "TPOT",
     "batch", "in", "17", "GB", "each", "prefill", "=", "(", "1T", "a3b", "nan", "1e999", "\u00d7", "\n", "🙂", "|",
     "["]
)  # fmt: skip


@given(st.lists(WORDS, max_size=12).map(" ".join) | st.text(max_size=60))
def test_any_text_is_a_claim_or_one_line_of_error(text: str):
    try:
        parse_claim(text)
    except FarthingError as error:
        assert "\n" not in str(error)
