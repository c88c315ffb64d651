"""Verdicts: published claims, measured rows of others, and each law at its own limit."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from farthing.hardware.accelerator import accelerator_ids, load_accelerator
from farthing.hardware.names import parse_hardware
from farthing.planner.claims.claim import Claim, Size
from farthing.planner.claims.claim_laws import Finding
from farthing.planner.claims.claim_limits import BOOST, cache_bytes, memory_bytes, peak_flops
from farthing.planner.claims.claim_text import parse_claim
from farthing.planner.claims.claimed_model import model_by_name
from farthing.planner.claims.factcheck import Verdict, factcheck
from farthing.planner.claims.weight_bits import parse_bits

REPOSITORY = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(REPOSITORY / "scripts"))
rows = importlib.import_module("factcheck_rows")
sys.path.remove(str(REPOSITORY / "scripts"))

GIB = 2**30

# Claims found published, with the law that they break. "no speculation named" and the
# hardware that a page names in its title stand in the text.
IMPOSSIBLE = (
    # gigagpu.com, RTX 4090 pages: 8.0 GB / 1,008 GB/s is 125 tokens/s; without the embedding table 7.5 GB, 136.
    ("4090, 8B FP8, 195 tok/s at batch 1, no speculation named", "bandwidth"),
    ("RTX 4090, llama-3.1-8b fp8, 195 tok/s", "bandwidth"),
    # gigagpu.com, RTX 4090 70B pages (also ?p=34203): 70.55e9 x 4.25 bit = 37.5 GB; FP8 70.6 GB.
    ('70B AWQ in "17 GB" on one 4090 at 23 tok/s', "size"),
    ("70B AWQ in 17 GB on one 4090", "size"),
    ('70B FP8 in "35 GB"', "size"),
    ("70B FP8 in ~35 GB", "size"),
    # craftrigs: 52.9 GB / 1,792 GB/s is 34 tokens/s even if they fitted, and a 5090 has 32 GB.
    ("70B 6-bit at 250 tok/s on a '24 GB 5090'", "bandwidth"),
    # solosoft.
    ("EXL3 4-bit 70B in 22 GB", "size"),
    # github:llm-d-incubation/llm-d-planner, benchmarks_interpolated_v2.json: above 141 GB at any listed precision.
    ("Kimi-K2 (1T params) on ONE H200, 6.83 ms ITL", "bandwidth"),
    ('Kimi-K2 (1T params) on ONE H200, 6.83 ms ITL, shipped as planner data; 500 of 500 rows "estimated"', "bandwidth"),
    ("Kimi-K2 (1T params) fits ONE H200", "memory"),
    # A README benchmark of TensorRT-LLM: 1.26x peak bandwidth of the fastest A100.
    ("TRT-LLM 7B fp16, 191 tok/s, one A100, batch 1", "bandwidth"),
    # llm-d-planner results_raw.csv: the driver reports less than 80 GiB on an H100.
    ('"80 GB" card = 80 GiB', "card"),
    ("H100 80 GB = 80 GiB", "card"),
)

# Wrong, but no law of physics forbids them; said in benchmarks/factcheck.md.
SUSPICIOUS = (
    # nelsahost: measured elsewhere 127.7 tok/s; slower than need be.
    ("RTX 4090, 8B Q4_K_M '72 tok/s'", "bandwidth"),
    # vLLM #6746: 405.85e9 x 8 bit are 405.9 GB, but checkpoints keep embedding and head (Meta's more: 496 GB) wider.
    ("FP8 405B = 406 GB", "size"),
)


# Measured by others, written as people write them (benchmarks/factcheck.md names them).
TRUE = (
    "RTX 4090, Llama-3-8B F16, 54.3 tok/s",
    "RTX 4090, Llama-3-8B Q4_K_M, 127.7 tok/s",
    "RTX 3090, Llama-3-8B Q4_K_M, 111.7 tok/s",
    "H100 PCIe, Llama-3-8B F16, 67.8 tok/s",
    "RTX 4090, 8B F16, prefill 9,056 tok/s",
    "8x RTX 4090, 70B Q4_K_M, 18.76 tok/s",
    "4x RTX 4090, gpt-oss-120B, 180.4 tok/s",
    "RTX 4090, Qwen2.5-Coder-7B Q4_K_M, 171.5 tok/s",
    "RTX 5090, Qwen3-8B Q4_K_M, 221.7 tok/s",
    "RTX 5090, 27B Q4_K_M, 81.8 tok/s",
    "RTX 3090, 27B dense int8-KV, 37.4 tok/s",
    "RTX 3090, 35B MoE, 169.6 tok/s",
    "RTX 4090, Llama-2-7B 4.0bpw, 211 tok/s",
    "RTX 4090, Llama-2-70B 2.5bpw, 38 tok/s",
    "RTX 4090, Llama-3.1-8B fp16, batch of 7, 339.6 tok/s aggregate",
    "4x3090, Gemma-31B AWQ TP4, 76.9 tok/s",
    "RTX 5090, Qwen3-30B-A3B NVFP4, 305 tok/s",
    "8x A100-80GB, 70B int4 with a 7B draft, 48.4 tok/s",
    "EPYC 9654, 8B Q4_K_M, 27.8 tok/s",
)


def finding(verdict: Verdict, law: str) -> Finding:
    [found] = [finding for finding in verdict.findings if finding.law == law]
    return found


def on(hardware: str, model: str = "llama-3.1-8b", weights: str = "fp16") -> Claim:
    return Claim(cluster=parse_hardware(hardware), model=model_by_name(model), weights=parse_bits(weights))


@pytest.mark.parametrize(("text", "law"), IMPOSSIBLE)
def test_each_published_claim_that_is_impossible_is_called_impossible_by_its_law(text: str, law: str):
    verdict = factcheck(parse_claim(text))
    assert verdict.outcome == "impossible"
    assert finding(verdict, law).outcome == "impossible"
    assert verdict.decisive is not None and verdict.decisive.closeness > 1


@pytest.mark.parametrize(("text", "law"), SUSPICIOUS)
def test_a_claim_that_is_wrong_without_breaking_a_law_is_called_suspicious(text: str, law: str):
    verdict = factcheck(parse_claim(text))
    assert verdict.outcome == "suspicious"
    assert finding(verdict, law).outcome == "suspicious"


@pytest.fixture(scope="module")
def verdicts(shared: Path) -> list[tuple[dict[str, str], Verdict]]:
    """Every plausible measured row that is a claim, with its verdict."""
    table = rows.read_rows(shared / "data")
    return list(rows.checked(row for row in table if row["quality"] != rows.SUSPECT))


@pytest.mark.parametrize("text", TRUE)
def test_what_others_measured_is_not_called_impossible_when_it_is_told_in_words(text: str):
    assert factcheck(parse_claim(text)).outcome != "impossible"


def test_no_measured_row_is_called_impossible_and_the_sample_is_a_hundred(
    verdicts: list[tuple[dict[str, str], Verdict]],
):
    assert len(verdicts) > 1500
    assert [row["id"] for row, verdict in verdicts if verdict.outcome == "impossible"] == []
    sample = rows.sample_of(verdicts)
    assert len({row["id"] for row, _ in sample}) == 100


def test_few_measured_rows_are_suspicious_and_every_one_meets_a_law_of_speed(
    verdicts: list[tuple[dict[str, str], Verdict]],
):
    assert sum(verdict.outcome == "suspicious" for _, verdict in verdicts) <= len(verdicts) // 100
    speeds = [verdict for _, verdict in verdicts if any(finding.unit != "B" for finding in verdict.findings)]
    assert len(speeds) == len(verdicts)


def test_the_page_of_the_benchmarks_has_the_published_claims_and_their_verdicts():
    page = (REPOSITORY / "benchmarks" / "factcheck.md").read_text(encoding="utf-8")
    for published in rows.PUBLISHED:
        verdict = factcheck(parse_claim(published.text))
        assert verdict.outcome == published.expected
        assert f"| {published.text} | **{verdict.outcome}** | {verdict.decisive.law}: {verdict.decisive.says} |" in page


def test_the_page_of_the_benchmarks_is_what_its_script_prints(shared: Path):
    page = (REPOSITORY / "benchmarks" / "factcheck.md").read_text(encoding="utf-8")
    assert page == "\n".join(rows.lines(rows.read_rows(shared / "data"))) + "\n"


def test_the_ceiling_of_one_stream_is_bandwidth_over_the_weights_that_are_read():
    verdict = factcheck(replace(on("rtx-4090", weights="fp8"), decode_tokens_per_second=100.0))
    read = 8_030_261_248 - 128256 * 4096 - 75_497_472
    assert finding(verdict, "bandwidth").limit == pytest.approx(1.008e12 / read)
    assert verdict.outcome == "possible"


def test_a_batch_shares_the_read_and_adds_its_keys_and_values():
    claim = replace(on("rtx-4090", weights="fp8"), decode_tokens_per_second=195.0, num_sequences=2)
    assert factcheck(claim).outcome == "possible"
    with_context = factcheck(replace(claim, input_tokens=8192))
    assert finding(with_context, "bandwidth").limit < finding(factcheck(claim), "bandwidth").limit
    keys_and_values = 2 * 8192 * 65536 * 0.5
    read = 8_030_261_248 - 128256 * 4096 - 75_497_472 + keys_and_values
    assert finding(with_context, "bandwidth").limit == pytest.approx(2 * 1.008e12 / read)


def test_every_remedy_of_a_broken_bandwidth_makes_the_claim_possible():
    claim = replace(on("rtx-4090", weights="fp8"), decode_tokens_per_second=195.0)
    remedies = finding(factcheck(claim), "bandwidth").remedies
    assert remedies == (
        "a batch of at least 2 sequences, if the claim is a throughput and says so",
        "speculation that keeps 1.4 tokens of a step, if the claim names it",
        "weights of 5 bits or fewer",
        "tensor parallelism over at least 2 such devices",
    )
    for cure in (
        Claim(num_sequences=2),
        Claim(speculation=True),
        Claim(weights=parse_bits("5-bit")),
        Claim(cluster=parse_hardware("2x rtx-4090")),
    ):
        assert factcheck(claim.merged(cure)).outcome == "possible"


def test_a_speculation_that_would_keep_more_tokens_than_anybody_does_is_suspicious():
    claim = replace(on("rtx-4090"), decode_tokens_per_second=1000.0, speculation=True)
    assert factcheck(claim).outcome == "suspicious"


def test_a_throughput_of_unknown_batch_is_bounded_by_compute_alone():
    claim = replace(on("rtx-4090"), decode_tokens_per_second=20_000.0, batched=True)
    verdict = factcheck(claim)
    assert verdict.outcome == "possible"
    assert any("compute alone" in reason for reason in verdict.unchecked)
    beyond = factcheck(replace(claim, decode_tokens_per_second=30_000.0))
    assert finding(beyond, "compute").outcome == "impossible"


def test_a_throughput_with_a_context_is_bounded_by_what_the_memory_holds():
    claim = replace(
        on("rtx-4090"), decode_tokens_per_second=1000.0, batched=True, input_tokens=100_000, output_tokens=1000
    )
    room = int((25_757_220_864 - 2 * 8_030_261_248) / (100_500 * 65536 * 0.5))
    limit = finding(factcheck(claim), "bandwidth").limit
    assert room == 2
    assert limit < room * 1.008e12 / (2 * 7.5e9)


def test_a_prompt_is_bounded_by_the_fastest_math_that_the_card_may_use_and_a_margin_for_its_clocks():
    limit = 330.3e12 * BOOST / (2 * (8_030_261_248 - 2 * 128256 * 4096))
    assert finding(factcheck(replace(on("rtx-4090"), prefill_tokens_per_second=9056.0)), "prefill compute").limit == (
        pytest.approx(limit)
    )
    outcomes = [
        factcheck(replace(on("rtx-4090"), prefill_tokens_per_second=limit * share)).outcome for share in (0.7, 0.9, 1.1)
    ]
    assert outcomes == ["possible", "suspicious", "impossible"]


def test_a_first_token_comes_after_one_read_of_the_weights():
    read_seconds = (2 * (8_030_261_248 - 128256 * 4096) - 75_497_472) / 1.008e12
    sooner, later = (replace(on("rtx-4090"), ttft_seconds=read_seconds * factor) for factor in (0.9, 1.1))
    assert factcheck(sooner).outcome == "impossible"
    assert factcheck(later).outcome == "possible"
    assert factcheck(replace(later, input_tokens=100_000)).outcome == "suspicious"


def test_weights_that_do_not_fit_are_impossible_where_nothing_but_the_fit_is_claimed():
    verdict = factcheck(on("rtx-4090", "llama-2-13b"))
    assert verdict.outcome == "impossible"
    assert "24.24 GiB do not fit 23.99 GiB" in finding(verdict, "memory").says
    assert factcheck(on("rtx-4090", "llama-2-13b", "int8")).outcome == "possible"
    assert factcheck(replace(on("rtx-4090", "llama-2-13b"), offload=True)).outcome == "possible"


def test_a_slow_stream_of_weights_that_do_not_fit_may_use_host_memory_and_a_fast_one_may_not():
    claim = on("rtx-4090", "llama-3.1-70b", "q4_k_m")
    slow = factcheck(replace(claim, decode_tokens_per_second=2.0))
    assert slow.outcome == "suspicious"
    assert any("host memory" in assumption for assumption in slow.assumptions)
    assert factcheck(replace(claim, decode_tokens_per_second=2.0, offload=True)).outcome == "possible"
    assert factcheck(replace(claim, decode_tokens_per_second=23.0)).outcome == "impossible"


def test_weights_that_leave_no_room_for_the_context_of_the_driver_are_suspicious():
    claim = on("rtx-4090", "llama-2-13b", "15.7bpw")
    assert factcheck(claim).outcome == "suspicious"


def test_a_stated_context_must_fit_beside_the_weights():
    claim = on("rtx-4090")
    assert factcheck(replace(claim, input_tokens=100_000)).outcome == "possible"
    assert factcheck(replace(claim, input_tokens=1_000_000)).outcome == "impossible"


def test_a_size_is_impossible_only_if_it_is_too_small_even_as_gibibytes_and_rounded_up():
    claim = Claim(model=model_by_name("llama-3.1-70b"), weights=parse_bits("4.0bpw"))
    outcomes = [factcheck(replace(claim, size=Size.parse(text))).outcome for text in ("32 GB", "33 GB", "36 GB")]
    assert outcomes == ["impossible", "suspicious", "possible"]


def test_an_unnamed_format_is_read_as_a_small_one_and_said():
    claim = replace(on("rtx-4090", "llama-2-70b"), weights=None, decode_tokens_per_second=38.0)
    verdict = factcheck(claim)
    assert verdict.outcome == "possible"
    assert any("no weight format is named" in assumption for assumption in verdict.assumptions)


def test_a_claim_that_says_nothing_of_a_batch_is_read_as_one_stream_and_says_so():
    verdict = factcheck(parse_claim("RTX 4090, llama-3.1-8b fp8, 195 tok/s"))
    assert "nothing is said of a batch or of many users: read as one stream" in verdict.assumptions


def test_a_rate_near_the_nominal_bandwidth_is_suspicious():
    limit = finding(factcheck(replace(on("rtx-4090"), decode_tokens_per_second=1.0)), "bandwidth").limit
    assert factcheck(replace(on("rtx-4090"), decode_tokens_per_second=0.97 * limit)).outcome == "suspicious"
    assert factcheck(replace(on("rtx-4090"), decode_tokens_per_second=0.91 * limit)).outcome == "possible"


def test_a_card_of_another_memory_than_it_is_sold_with_is_suspicious():
    assert factcheck(parse_claim("llama-3.1-8b fp8 on a 24 GB 5090, 100 tok/s")).outcome == "suspicious"
    assert factcheck(parse_claim("llama-3.1-8b fp8 on a 32 GB 5090, 100 tok/s")).outcome == "possible"


@pytest.mark.parametrize(
    ("text", "outcome"),
    [("A100 80 GB has 80 GB", "possible"), ("RTX 4090 24 GB", "possible"), ("RTX 4090 25 GiB", "impossible")],
)
def test_of_a_card_alone_the_usable_memory_is_checked(text: str, outcome: str):
    assert factcheck(parse_claim(text)).outcome == outcome


def test_what_the_catalogue_does_not_know_is_not_checked_and_said():
    unknown = replace(load_accelerator("rtx-4090"), bandwidth=None, flops={}, nominal_bytes=None, usable_bytes=None)
    cluster = parse_hardware("rtx-4090")
    node = replace(cluster.nodes[0], accelerators=(unknown,))
    verdict = factcheck(replace(on("rtx-4090"), cluster=replace(cluster, nodes=(node,)), decode_tokens_per_second=1e6))
    assert verdict.outcome == "possible" and verdict.findings == ()
    assert len(verdict.unchecked) == 3


@pytest.mark.parametrize("accelerator", accelerator_ids())
def test_every_entry_of_the_catalogue_gives_limits_that_do_not_fall_with_narrower_weights(accelerator: str):
    device = load_accelerator(accelerator)
    assert cache_bytes(device) > 0
    assert (memory_bytes(device) or 1) >= (device.memory_bytes or 1)
    peaks = [peak_flops(device, bits) or 0.0 for bits in (32, 16, 8, 4)]
    assert peaks == sorted(peaks)
