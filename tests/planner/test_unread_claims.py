"""A fact check never says "possible" of a number that it did not read, nor of training."""

import pytest

from farthing.errors import UsageError
from farthing.planner.claim_text import parse_claim

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
