"""A fact check never says "possible" of a number that it did not read, nor of training."""

import pytest

from farthing.errors import UsageError
from farthing.planner.claims.claim_text import parse_claim

CARD_AND_MODEL = "RTX 4090 llama-3.1-8b fp8"


@pytest.mark.parametrize(
    "speed",
    [
        "2e4 tok/s", "1.95e2 tok/s", "1000+ tok/s", "195 toks", "20000 tokens in a second",
        "1.2 million tokens per minute", "1000 words per second", "one thousand tokens per second",
        "每秒20000个token", "99% MBU",
    ],
)  # fmt: skip
def test_a_speed_that_is_not_understood_is_told(speed: str) -> None:
    with pytest.raises(UsageError, match="not understood"):
        parse_claim(f"{CARD_AND_MODEL} {speed}")


@pytest.mark.parametrize("speed", ["20 000 tok/s", "20,000 tok/s", "20k tok/s"])
def test_thousands_are_read_as_people_write_them(speed: str) -> None:
    assert parse_claim(f"{CARD_AND_MODEL} {speed}").decode_tokens_per_second == 20_000


@pytest.mark.parametrize(
    "text", ["8x RTX 4090 trains llama-2-70b", "can one RTX 4090 finetune llama-2-70b?", "pretraining llama-2-7b on T4"]
)
def test_training_is_another_question(text: str) -> None:
    with pytest.raises(UsageError, match="--train"):
        parse_claim(text)


@pytest.mark.parametrize(
    "text", ["RTX 4090, a finetuned llama-3.1-8b fp16, 50 tok/s", "llama-3.1-8b trained on 15T tokens, H200, 50 tok/s"]
)
def test_a_claim_about_serving_may_mention_training(text: str) -> None:
    claim = parse_claim(text)
    assert claim.decode_tokens_per_second == 50 and claim.model is not None and claim.model.name == "llama-3.1-8b"


def test_a_question_mark_is_no_part_of_a_name() -> None:
    model = parse_claim("can one RTX 4090 run llama-2-70b?").model
    assert model is not None and model.name == "llama-2-70b"


@pytest.mark.parametrize("text", ["RTX 4090, llama-3.1-8b, 195", "RTX 4090 runs llama-3.1-8b at 195"])
def test_a_number_without_a_unit_is_asked_for(text: str) -> None:
    with pytest.raises(UsageError, match="195 of what"):
        parse_claim(text)


@pytest.mark.parametrize("text", ["H800 8卡 llama-3.1-70b fp8 3000 tok/s", "8x H100 SXM llama-3.1-8b, 1000 tok/s/GPU"])
def test_a_count_that_is_not_understood_never_becomes_one(text: str) -> None:
    with pytest.raises(UsageError):
        parse_claim(text)


def test_prompts_in_a_sentence_do_not_make_a_prefill() -> None:
    claim = parse_claim("RTX 4090 llama-3.1-8b fp8 195 tok/s on prompts of 128 tokens")
    assert (claim.decode_tokens_per_second, claim.prefill_tokens_per_second) == (195, None)


def test_a_batch_and_a_time_are_two_numbers() -> None:
    claim = parse_claim("H100 SXM llama-3.1-70b fp8 100 tok/s batch 4 500 ms TTFT")
    assert (claim.num_sequences, claim.ttft_seconds) == (4, 0.5)


def test_a_decimal_comma_is_not_half_a_number() -> None:
    with pytest.raises(UsageError):
        parse_claim("RTX 4090 llama-3.1-8b fp8 1,5 tok/s")


def test_of_several_cards_of_a_name_a_prefill_takes_the_one_that_computes_most() -> None:
    cluster = parse_claim("8x H100 llama-3.1-70b fp8 prefill 130000 tok/s").cluster
    assert cluster is not None and {device.id for device in cluster.devices} == {"h100-sxm"}
