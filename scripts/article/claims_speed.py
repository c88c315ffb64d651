"""The article's claims on compute, bandwidth and links, and on tokens per second of eight cards."""

from collections.abc import Sequence

from article.blocks import Cell, Several, say
from article.claim import Claim
from article.figures import count, rate, times
from article.plans import (
    H100,
    LOADS,
    MODEL,
    PATCHED,
    SHORT,
    STOCK,
    Box,
    box_plan,
    card,
    choice_of,
    command_of,
    plan_of,
    tokens_per_second,
)
from article.verdicts import is_close, judge, judge_cases, judge_range, judge_whether
from farthing.hardware.accelerator import Accelerator
from farthing.planner.plan import Choice, Plan

CLAIMED_COMPUTE, CLAIMED_BANDWIDTH, CLAIMED_PARITY, CLAIMED_THROUGHPUT = 6.0, 3.35, 1.0, 10.0
CLAIMED_LINK, CLAIMED_NVLINK = 64e9, 900e9
CLAIMED_PIPELINE, CLAIMED_TENSOR, CLAIMED_TENSOR_H100 = 7.0, 45.0, 147.0  # tok/s of one stream
CLAIMED_DECODE, CLAIMED_DECODE_H100 = 12_200.0, 56_000.0
BATCH = 256


def ratios() -> dict[str, float]:
    """H100 SXM against an RTX 4090, and an RTX 4090 against an A100 SXM, from the catalogue's peaks."""
    h100, a100, rtx4090 = (card(id) for id in ("h100-sxm", "a100-80-sxm", "rtx-4090"))
    assert h100.memory_bytes and a100.memory_bytes and rtx4090.memory_bytes
    wide, narrow = rtx4090.flops["fp16"].value, rtx4090.flops["fp16_acc16"].value
    return {
        "compute_fp32": h100.flops["fp16"].value / wide,
        "compute_fp16": h100.flops["fp16"].value / narrow,
        "bandwidth": _bandwidth(h100) / _bandwidth(rtx4090),
        "parity_fp32": wide / a100.flops["fp16"].value,
        "parity_fp16": narrow / a100.flops["fp16"].value,
        "a100_memory": a100.memory_bytes / rtx4090.memory_bytes,
        "a100_bandwidth": _bandwidth(a100) / _bandwidth(rtx4090),
        "a100_link": _link(a100) / _host(rtx4090),
    }


def throughput_ratios(p2p: bool | None) -> list[float]:
    """Tokens of the H100 box over those of the 4090 box, at every load."""
    box = PATCHED if p2p else STOCK
    return [
        tokens_per_second(box_plan(load, H100)) / tokens_per_second(box_plan(load, box))
        for load in LOADS
        if tokens_per_second(box_plan(load, box))
    ]


def claims() -> Sequence[Claim]:
    return (
        _compute(), _bandwidth_claim(), _parity(), _gap(), _link_claim(), _nvlink(), _pipeline(), _tensor(), _decode(),
        _throughput(),
    )  # fmt: skip


def _bandwidth(one: Accelerator) -> float:
    assert one.bandwidth is not None
    return one.bandwidth.value


def _link(one: Accelerator) -> float:
    """Between devices, one direction."""
    assert one.scale_up.bytes_per_second is not None
    return one.scale_up.bytes_per_second.value


def _host(one: Accelerator) -> float:
    assert one.host.bytes_per_second is not None
    return one.host.bytes_per_second.value


def _catalogue(*ids: str) -> tuple[str, ...]:
    return tuple(f"farthing hardware {id}" for id in ids)


def _tera(value: float) -> str:
    return f"{value / 1e12:,.1f} TFLOP/s"


def _gigabytes(value: float) -> str:
    return f"{value / 1e9:,.3g} GB/s"


def _compute() -> Claim:
    ratio, h100, rtx4090 = ratios(), card("h100-sxm"), card("rtx-4090")
    figures = [h100.flops["fp16"].value, rtx4090.flops["fp16"].value, rtx4090.flops["fp16_acc16"].value]
    texts = [_tera(value) for value in figures]
    return Claim(
        "compute",
        say("compute.claim", factor=f"{CLAIMED_COMPUTE:g}"),
        say(
            "compute.computed",
            h100=texts[0],
            wide=texts[1],
            wide_ratio=times(ratio["compute_fp32"]),
            narrow=texts[2],
            narrow_ratio=times(ratio["compute_fp16"]),
        ),
        judge_cases(
            CLAIMED_COMPUTE, {"case.sums_fp32": ratio["compute_fp32"], "case.sums_fp16": ratio["compute_fp16"]}
        ),
        _catalogue("h100-sxm", "rtx-4090"),
        [text.split()[0] for text in texts],
    )


def _bandwidth_claim() -> Claim:
    values = [_bandwidth(card(id)) for id in ("h100-sxm", "rtx-4090")]
    texts = [f"{value / 1e9:,.0f} GB/s" for value in values]
    return Claim(
        "bandwidth",
        say("bandwidth.claim", factor=f"{CLAIMED_BANDWIDTH:g}"),
        say("bandwidth.computed", h100=texts[0], rtx4090=texts[1], factor=times(ratios()["bandwidth"])),
        judge(CLAIMED_BANDWIDTH, ratios()["bandwidth"]),
        _catalogue("h100-sxm", "rtx-4090"),
        texts,
    )


def _parity() -> Claim:
    ratio = ratios()
    return Claim(
        "a100",
        say("parity.claim"),
        say("parity.computed", narrow=times(ratio["parity_fp16"]), wide=times(ratio["parity_fp32"])),
        judge_cases(
            CLAIMED_PARITY,
            {"case.sums_fp16": ratio["parity_fp16"], "case.sums_fp32": ratio["parity_fp32"]},
            within=0.1,
        ),
        _catalogue("a100-80-sxm", "rtx-4090"),
        [_tera(card("a100-80-sxm").flops["fp16"].value).split(".")[0]],
    )


def _gap() -> Claim:
    ratio = ratios()
    compute, others = 1 / ratio["parity_fp32"], ("a100_memory", "a100_bandwidth", "a100_link")
    return Claim(
        "gap",
        say("gap.claim"),
        say("gap.computed", **{name: times(ratio[name]) for name in others}, compute=times(compute)),
        judge_whether(all(ratio[name] > compute for name in others)),
        _catalogue("a100-80-sxm", "rtx-4090"),
    )


def _link_claim() -> Claim:
    one_way = _host(card("rtx-4090"))
    return Claim(
        "link",
        say("link.claim", gb=f"{CLAIMED_LINK / 1e9:.0f}"),
        say("link.computed", one=_gigabytes(one_way), both=_gigabytes(2 * one_way)),
        judge_cases(CLAIMED_LINK, {"case.one_way": one_way, "case.both_ways": 2 * one_way}),
        _catalogue("rtx-4090"),
        (_gigabytes(one_way),),
    )


def _nvlink() -> Claim:
    a100, h100 = _link(card("a100-80-sxm")), _link(card("h100-sxm"))
    return Claim(
        "nvlink",
        say("nvlink.claim", gb=f"{CLAIMED_NVLINK / 1e9:.0f}"),
        say("nvlink.computed", one=_gigabytes(a100), both=_gigabytes(2 * a100), h100=_gigabytes(2 * h100)),
        judge(CLAIMED_NVLINK, 2 * a100),
        _catalogue("a100-80-sxm"),
        (_gigabytes(a100),),
    )


def _at(box: Box, tp: int, pp: int, batch: int = 1) -> Choice:
    """That layout at that batch, short sequences."""
    choice = choice_of(_plan(box, tp, pp, batch), tp, pp)
    assert choice is not None
    return choice


def _plan(box: Box, tp: int, pp: int, batch: int) -> Plan:
    lengths = {"input_tokens": SHORT.input_tokens, "output_tokens": SHORT.output_tokens}
    return plan_of(MODEL, box.on, format="fp16", **lengths, p2p=box.p2p, tp=tp, pp=pp, replicas=1, batch=batch)


def _command(box: Box, tp: int, pp: int, batch: int = 1) -> str:
    return command_of(MODEL, _plan(box, tp, pp, batch).request)


def _streams(box: Box, tp: int, pp: int, batch: int = 1) -> float:
    return _at(box, tp, pp, batch).speed.decode.tokens_per_second


def _pipeline() -> Claim:
    speed = _streams(STOCK, 1, 8)
    return Claim(
        "pipeline",
        say("pp8.claim", cards="8", rate=f"{CLAIMED_PIPELINE:g}"),
        say("pp8.computed", rate=rate(speed)),
        judge(CLAIMED_PIPELINE, speed, within=0.15),
        (_command(STOCK, 1, 8),),
        (f"{rate(speed)} tok/s",),
    )


def _tensor() -> Claim:
    stock, patched, h100 = (_streams(box, 8, 1) for box in (STOCK, PATCHED, H100))
    right = is_close(CLAIMED_TENSOR, patched, 0.15) and is_close(CLAIMED_TENSOR_H100, h100, 0.15)
    return Claim(
        "tensor",
        say("tp8.claim", cards="8", rate=f"{CLAIMED_TENSOR:g}", h100=f"{CLAIMED_TENSOR_H100:g}"),
        say("tp8.computed", patched=rate(patched), stock=rate(stock), h100=rate(h100)),
        judge(CLAIMED_TENSOR, CLAIMED_TENSOR, within=0.15)
        if right
        else say(
            "verdict.both",
            first=judge(CLAIMED_TENSOR, patched, within=0.15),
            second=judge(CLAIMED_TENSOR_H100, h100, within=0.15),
        ),
        tuple(_command(box, 8, 1) for box in (PATCHED, H100)),
        (f"{rate(patched)} tok/s", f"{rate(h100)} tok/s"),
    )


def _decode() -> Claim:
    patched, h100 = (_streams(box, 8, 1, BATCH) for box in (PATCHED, H100))
    claimed = CLAIMED_DECODE_H100 / CLAIMED_DECODE
    return Claim(
        "decode",
        say(
            "decode.claim",
            cards="8",
            rate=count(CLAIMED_DECODE),
            h100=count(CLAIMED_DECODE_H100),
            factor=times(claimed),
        ),
        say("decode.computed", batch=str(BATCH), rate=count(patched), h100=count(h100), factor=times(h100 / patched)),
        say(
            "verdict.two",
            rates=judge(CLAIMED_DECODE, patched, within=0.15),
            ratio=judge(claimed, h100 / patched, within=0.15),
        ),
        tuple(_command(box, 8, 1, BATCH) for box in (PATCHED, H100)),
    )


def _throughput() -> Claim:
    found: list[Cell] = []
    for key, p2p in (("throughput.patched", True), ("throughput.stock", None)):
        values = throughput_ratios(p2p)
        found.append(say(key, low=times(min(values)), high=times(max(values))))
    every = throughput_ratios(True) + throughput_ratios(None)
    return Claim(
        "throughput",
        say("throughput.claim", factor=f"{CLAIMED_THROUGHPUT:g}"),
        say(
            "throughput.computed",
            low=count(LOADS[0].context),
            high=count(LOADS[-1].context),
            ratios=Several(found, "semicolon"),
        ),
        judge_range(CLAIMED_THROUGHPUT, min(every), max(every)),
    )
