"""`farthing factcheck` as a user meets it: text and flags, the answer, its JSON, and one line for a mistake."""

import json
import re

import pytest

from farthing.cli import app


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        app.main(["factcheck", *arguments])
    captured = capsys.readouterr()
    assert isinstance(ended.value.code, int)
    return ended.value.code, captured.out, captured.err


@pytest.mark.parametrize(
    ("arguments", "verdict"),
    [
        (("RTX 4090, llama-3.1-8b fp8, 195 tok/s",), "impossible"),
        (("RTX 4090, 8B Q4_K_M, 72 tok/s",), "suspicious"),
        (("--on", "h100-sxm", "--model", "llama-3.1-70b", "--format", "fp8", "--decode", "40"), "possible"),
    ],
)
def test_every_verdict_is_an_answer(capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], verdict: str):
    code, out, err = run(capsys, *arguments)
    assert (code, err) == (0, "")
    assert out.startswith(f"{verdict}: ")


def test_the_answer_shows_how_it_was_read_and_the_arithmetic_line_by_line(capsys: pytest.CaptureFixture[str]):
    _, out, _ = run(capsys, "RTX 4090, llama-3.1-8b fp8, 195 tok/s")
    lines = [line.strip() for line in out.splitlines()]
    assert lines[0] == "impossible: 195 tokens/s is 1.44x the ceiling of 136 tokens/s"
    assert lines[1] == "read as  1x rtx-4090 · llama-3.1-8b · fp8 · 195 tokens/s"
    start = lines.index("bandwidth: impossible - 195 tokens/s is 1.44x the ceiling of 136 tokens/s")
    assert lines[start + 1 : start + 5] == [
        "a step reads 7.5 G weights x 8 bits / 8 = 7.5 GB",
        "less 75.5 MB that caches may keep: 7.43 GB",
        "at 1.01 TB/s nominal: 7.37 ms a step of 1 token = 136 tokens/s",
        "possible with",
    ]
    assert "assumed  nothing is said of a batch or of many users: read as one stream" in lines


def test_text_and_flags_say_the_same(capsys: pytest.CaptureFixture[str]):
    _, by_text, _ = run(capsys, "4090, llama-3.1-8b fp8, 195 tok/s, batch 1", "--json")
    flags = ("--on", "4090", "--model", "llama-3.1-8b", "--format", "fp8", "--decode", "195", "--batch", "1", "--json")
    _, by_flags, _ = run(capsys, *flags)
    assert by_text == by_flags


def test_flags_go_before_the_text(capsys: pytest.CaptureFixture[str]):
    _, out, _ = run(capsys, "RTX 4090, llama-3.1-8b fp8, 195 tok/s", "--batch", "4", "--on", "h100-sxm", "--json")
    claim = json.loads(out)["claim"]
    assert (claim["hardware"], claim["num_sequences"]) == ("1x h100-sxm", 4)


def test_the_json_has_a_schema_and_a_ceiling(capsys: pytest.CaptureFixture[str]):
    _, out, _ = run(capsys, "RTX 4090, llama-3.1-8b fp8, 195 tok/s", "--json")
    document = json.loads(out)
    assert list(document) == ["schema", "verdict", "claim", "ceiling", "findings", "assumptions", "unchecked"]
    assert (document["schema"], document["verdict"]) == ("farthing.factcheck/1", "impossible")
    assert document["ceiling"]["law"] == "bandwidth"
    assert document["ceiling"]["limit"] == pytest.approx(135.6, abs=0.1)
    assert document["ceiling"] == {key: document["findings"][1][key] for key in ("law", "claimed", "limit", "unit")}
    assert set(document["findings"][0]) == {
        "law", "claimed", "limit", "unit", "outcome", "says", "arithmetic", "remedies",
    }  # fmt: skip
    assert set(document["claim"]) == {
        "hardware", "model", "num_parameters", "format", "bits_per_weight", "decode_tokens_per_second", "tpot_seconds",
        "prefill_tokens_per_second", "ttft_seconds", "num_sequences", "batched", "weights_bytes", "card_bytes",
        "input_tokens", "output_tokens", "speculation", "offload",
    }  # fmt: skip


def test_a_size_is_claimed_by_a_flag(capsys: pytest.CaptureFixture[str]):
    _, out, _ = run(capsys, "--model", "llama-3.1-70b", "--format", "awq", "--memory", "17GB")
    assert out.startswith("impossible: the weights take 35.3 GB, not 17 GB")


def test_a_throughput_is_claimed_by_a_flag(capsys: pytest.CaptureFixture[str]):
    flags = ("--on", "h100-sxm", "--model", "llama-3.1-8b", "--format", "fp8", "--decode", "12000", "--throughput")
    _, out, _ = run(capsys, *flags)
    assert out.startswith("possible: ")


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        ((), "nothing is claimed"),
        (("hello",), "names no model"),
        (("RTX 4080, 8B, 50 tok/s",), "did you mean"),
        (("8B on a 4090, -5 tok/s",), "below zero"),
        (("--on", "h100", "--model", "llama-3.1-8b", "--decode", "5"), "h100-nvl, h100-pcie, h100-sxm"),
        (("--on", "4090", "--model", "lama-3.1-8b", "--decode", "5"), "did you mean llama-3.1-8b"),
        (("--on", "4090", "--model", "llama-3.1-8b", "--decode", "nan"), "above zero"),
        (("--on", "4090", "--model", "llama-3.1-8b", "--decode", "0"), "above zero"),
        (("--on", "4090", "--model", "llama-3.1-8b", "--decode", "5", "--batch", "-1"), "above zero"),
        (("--on", "4090", "--model", "llama-3.1-8b", "--format", "fp99"), "not known"),
        (("--on", "4090", "--model", "llama-3.1-8b", "--memory", "much"), "not a size"),
    ],
)
def test_a_mistake_is_one_line_and_exit_2(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], fragment: str
):
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "")
    assert re.fullmatch(r"farthing: .+ - .+\n", err), err
    assert fragment in err
