"""From free text to a Claim: "RTX 4090, llama-3.1-8b fp8, 195 tok/s", as people write it on a page or in a forum.

Numbers with units are taken out first, then the weight format; the model and the hardware are looked for in windows of
the words that are left. Other words say nothing: what was understood is shown. Knows no law
(planner/claims/factcheck.py).
"""

import re
from collections.abc import Callable, Iterator
from typing import TypeVar

from farthing.errors import UsageError
from farthing.hardware.accelerator import Accelerator, accelerator_ids, load_accelerator
from farthing.hardware.cluster import Cluster, Node
from farthing.hardware.names import matching_ids, parse_hardware
from farthing.models.published_models import find_published
from farthing.models.reference import ModelReference
from farthing.planner.claims.claim import FORM, Claim, Size
from farthing.planner.claims.claimed_model import ClaimedModel, model_of, model_of_size
from farthing.planner.claims.weight_bits import find_bits

Found = TypeVar("Found")

_MAX_LENGTH = 500
_MAX_WINDOW = 5
_N = r"(?<![\w.])(?<!\d,)(?P<number>\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?)"
_IS = r"\s*(?:of|is|=|:|~|-)?\s*"
_SPACED = _N.replace("(?:,", "(?:[, ]").replace("(?<![\\w.])", r"(?<![\w.])(?<!batch\s)(?<!bs\s)(?<!tp\s)", 1)
_RATE = re.compile(
    rf"{_SPACED}\s*(?P<kilo>k\s*)?(?:(?:output\s+)?tok(?:en)?s?\s*(?:/|per|a)\s*s(?:ec(?:ond)?)?|t/s|tps)\b"
    r"(?P<each>\s*(?:/|per\s+)(?:user|request|stream|sequence|client)\b|\s+each\b)?"
    r"(?P<device>\s*(?:/|per\s+)(?:gpu|card|device|chip|accelerator)\b)?"
)
_TPOT = (
    re.compile(rf"{_N}\s*(?P<unit>ms|us|s)\s*(?:(?:/|per|a)\s*tok(?:en)?|tpot|itl|inter-token(?:\s+latency)?)\b"),
    re.compile(rf"\b(?:tpot|itl|(?:inter-token|token)\s+latency){_IS}{_N}\s*(?P<unit>ms|us|s)\b"),
)
_TTFT = (
    re.compile(rf"{_N}\s*(?P<unit>ms|s)\s*(?:ttft|(?:time\s+)?to\s+first\s+token)\b"),
    re.compile(rf"\b(?:ttft|time\s+to\s+first\s+token|first\s+token\s+in){_IS}{_N}\s*(?P<unit>ms|s)\b"),
)
_SEQUENCES = (
    re.compile(rf"\b(?:batch(?:[\s_-]*size)?|bs|concurrency){_IS}{_N}\b"),
    re.compile(
        rf"{_N}\s*(?:concurrent\s+|parallel\s+)?(?:users?|people|persons?|developers?|streams?|requests?|sequences?|clients?)\b"
    ),
)
_INPUT = (
    re.compile(rf"\b(?:context|ctx|input|prompt)(?:\s+length)?{_IS}{_N}\s*(?P<kilo>k)?\b(?:\s*tokens?)?"),
    re.compile(rf"{_N}\s*(?P<kilo>k)?[\s-]*(?:tokens?\s+(?:of\s+)?)?(?:context|ctx|input|prompt)\b(?:\s*tokens?)?"),
)
_OUTPUT = (
    re.compile(rf"\boutput(?:\s+length)?{_IS}{_N}\s*(?P<kilo>k)?\b(?:\s*tokens?)?"),
    re.compile(rf"{_N}\s*(?P<kilo>k)?[\s-]*output(?:\s*tokens?)?\b"),
)
_SIZE = re.compile(
    r"(?P<takes>(?:\b(?:in|into|within|takes?|taking|needs?|uses?|using|only|loads?|fits|weighs?|is|at|size)\s|=)\s*"
    rf"(?:(?:just|only|about|under|around|exactly|in)\s+|[~≈<]\s*)*)?{_N}\s*-?\s*(?P<unit>[gmt]i?b|g)(?![\w/])"
)
_ONE_SEQUENCE = re.compile(r"\b(?:single|one)[\s-]+(?:user|stream|sequence|request)\b")
_MANY_SEQUENCES = re.compile(r"\b(?:throughput|total|aggregated?|concurren\w+|users|batch(?:ed|ing)?|saturat\w+)\b")
_KV_FORMAT = re.compile(
    r"\b(?:(?:fp|bf|int|q)\d+\w*|\d-?bit)[\s-]*kv(?:[\s-]*cache)?\b|\bkv(?:[\s-]*cache)?[\s:=-]*(?:(?:fp|bf|int|q)\d+\w*|\d-?bit)\b"
)
_UNREAD_SPEED = re.compile(  # what is left of one when every number with a unit was taken out
    r"[\w.,+]*\s*(?:\btok(?:en)?s?\s*/|\btoks\b|\btps\b|\bm[bf]u\b|秒|"
    r"\b(?:tok(?:en)?s?|words?)\b[^|]{0,12}\b(?:sec|min|hour)\w*)"
)
_BARE_NUMBER = re.compile(r"(?:,|\bat|[:=])\s*(?P<number>\d+(?:\.\d+)?)\s*[.!?|]*\s*$")
_NOT_ENGLISH = re.compile(r"\w*[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+\w*")
_TRAINING = re.compile(r"\b(?:(?:pre-?)?train(?:s|ing|ed)?|fine-?tun(?:es?|ing|ed))\b")
_DENIED = re.compile(r"\b(?:no|not|without)\s+(?:\w+\s+)?(?:specul\w+|draft\w*|offload\w*)")
_SPECULATION = re.compile(r"\b(?:specul\w*|draft\w*|eagle\w*|medusa|mtp|lookahead|n-?gram)\b")
_OFFLOAD = re.compile(r"\b(?:offload\w*|cpu|ram|(?:host|system|main)\s+memory|ngl|ssd|nvme|ktransformers)\b")
_PROMPT_OR_OUTPUT = re.compile(
    r"(?P<prompt>prefill|prompt\s+(?:proc|eval|speed|through|ingest)|\bpp\d*\b)|decod|generat|output|\btg\d*\b"
)
_COUNTED = re.compile(
    r"(?<![\w.])(?P<number>\d+(?:\.\d+)?)(?:(?P<unit>[bt])|\s+(?P<word>b|tr)illion)(?:[\s-]*a(?P<active>\d+(?:\.\d+)?)b)?\b"
)
_ACTIVE = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)b\s+active\b")
_COUNT_WORDS = {"dual": 2, "two": 2, "three": 3, "quad": 4, "four": 4, "six": 6, "eight": 8}
_COUNT = re.compile(
    rf"\b(?:(?P<word>{'|'.join(_COUNT_WORDS)})|(?P<number>\d{{1,3}}))(?:\s*[x*]\s*|\s+)(?=(?:(?:nvidia|amd|geforce|gpus?)\s+)*"
    r"(?:rtx|rx|\d{4}s?\b|[abhltv]\d{1,3}s?\b|mi\d|gh\d|gb\d|tpu|gaudi|arc))"
)
_PLURAL = re.compile(r"(?<=\d)s\b")
_NAMES_HARDWARE = re.compile(r"[a-z][\s-]?\d|\d{2}")  # every entry of the catalogue does
_HARDWARE_LIKE = re.compile(r"\b(?:(?:rtx|gtx|rx|arc|radeon|epyc|xeon|ryzen)[\s-]*\w*\d\w*|mi\d+\w*|[abhlv]\d{2,3})\b")
_SCALE = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
_BEHIND = 4
_NEAR = 24  # characters between a rate and the word that says whether it is of prompts


class _Text:
    """A text out of which numbers are taken; a gap stays, so that words on its two sides never join."""

    def __init__(self, text: str) -> None:
        self.left = text

    def take(self, *patterns: re.Pattern[str]) -> list[re.Match[str]]:
        """Every match; its text is cut out. UsageError for a negative number."""
        found: list[re.Match[str]] = []
        for pattern in patterns:
            matches = list(pattern.finditer(self.left))
            for match in matches:
                before = self.left[: match.start("number")]
                if re.search(r"(?:^|[\s=:(])-\s*$", before):
                    raise UsageError(f"the claim has a number below zero, -{match['number']}", fix="say a positive one")
            self.left = pattern.sub(lambda match: "|" * len(match[0]), self.left)
            found += matches
        return found


def parse_claim(text: str) -> Claim:
    """What the text says; a part that it does not say is None. UsageError if it says two things of one kind."""
    if len(text) > _MAX_LENGTH:
        raise UsageError(f"a claim of {len(text)} characters, more than {_MAX_LENGTH}", fix="give the sentence alone")
    plain = re.sub(r"[\"'“”„`*_](?=\W|$)|(?<!\w)[\"'“”„`*_]", " ", text.lower().replace("×", "x").replace("–", "-"))
    plain = _KV_FORMAT.sub(" ", _DENIED.sub(" ", plain))
    whole = _Text(plain)
    claim = _speeds(whole)
    if not claim.states_speed and (training := _TRAINING.search(plain)):
        raise UsageError(f"{training[0]!r} is about training", fix="ask farthing plan MODEL --on HW --train")
    claim = claim.merged(_sizes(whole)).merged(_conditions(whole, plain))
    if foreign := _NOT_ENGLISH.search(whole.left):
        raise UsageError(f"claims are read in English: {foreign[0]!r} is not understood", fix=FORM)
    if unread := _UNREAD_SPEED.search(whole.left):
        raise UsageError(f"a speed in the claim is not understood: {unread[0].strip(' |')!r:.40}", fix=FORM)
    weights, left = find_bits(whole.left)
    claim = claim.merged(Claim(weights=weights))
    words = re.sub(r"[,;()|\[\]?!]+|:\s|\.\s|\.$", " | ", _PLURAL.sub("", _COUNT.sub(_as_count, left))).split()
    model = _model(words, left)
    cluster, assumption = _hardware(words, claim.card_size, computes=claim.prefill_tokens_per_second is not None)
    if cluster is None and model is None and claim.card_size is not None:
        cluster, assumption = _any_card(claim.card_size)
    if cluster is None and (unknown := _HARDWARE_LIKE.search(left)):
        matching_ids(unknown[0])  # which names the nearest in its error
    nothing_said = not claim.states_speed and claim.size is None
    if nothing_said and (bare := _BARE_NUMBER.search(left)) and _cluster(f"rtx {bare['number']}") is None:
        raise UsageError(f"{bare['number']} of what? It has no unit", fix=FORM)
    return claim.merged(Claim(cluster=cluster, model=model, assumptions=(assumption,) if assumption else ()))


def _speeds(text: _Text) -> Claim:
    everything = text.left
    decode: list[float] = []
    prefill: list[float] = []
    tpot: list[float] = []
    for match in text.take(_RATE):
        rate = _number(match)
        if rate <= 0:
            raise UsageError("the claim has a speed of 0 tokens/s", fix="it must be above zero")
        if match["device"]:
            raise UsageError("the claim has a speed per device", fix="say that of all devices together")
        if match["each"]:
            tpot.append(1 / rate)
        else:
            (prefill if _is_of_prompts(everything, match) else decode).append(rate)
    tpot += [_number(match) * _SCALE[match["unit"]] for match in text.take(*_TPOT)]
    ttft = [_number(match) * _SCALE[match["unit"]] for match in text.take(*_TTFT)]
    return Claim(
        decode_tokens_per_second=_only(decode, "speeds in tokens/s"),
        prefill_tokens_per_second=_only(prefill, "prefill speeds"),
        tpot_seconds=_only(tpot, "times per token"),
        ttft_seconds=_only(ttft, "times to the first token"),
    )


def _is_of_prompts(text: str, rate: re.Match[str]) -> bool:
    """Whether the nearest word that tells says prefill; a word before the number goes before one behind it."""
    near = [
        (max(rate.start() - word.end(), word.start() - rate.end() + _BEHIND), bool(word["prompt"]))
        for word in _PROMPT_OR_OUTPUT.finditer(text)
        if not rate.start() <= word.start() < rate.end()
    ]
    gap, of_prompts = min(near, default=(_NEAR + 1, False))
    return of_prompts and gap <= _NEAR


def _sizes(text: _Text) -> Claim:
    """A size behind a word such as "in" or "takes" is that of the weights, any other that of the card."""
    taken: dict[str, Size] = {}
    card: dict[str, Size] = {}
    for match in text.take(_SIZE):
        size = Size.parse(f"{re.sub('[, ]', '', match['number'])} {match['unit']}")
        (taken if match["takes"] else card)[size.text] = size
    return Claim(
        size=_only(list(taken.values()), "sizes of the weights"), card_size=_only(list(card.values()), "card sizes")
    )


def _conditions(text: _Text, everything: str) -> Claim:
    num_sequences = _only([_number(match) for match in text.take(*_SEQUENCES)], "numbers of sequences")
    if num_sequences is None and _ONE_SEQUENCE.search(everything):
        num_sequences = 1
    inputs = _only([_number(match) for match in text.take(*_INPUT)], "lengths of the input")
    outputs = _only([_number(match) for match in text.take(*_OUTPUT)], "lengths of the output")
    return Claim(
        num_sequences=None if num_sequences is None else int(num_sequences),
        batched=num_sequences is None and bool(_MANY_SEQUENCES.search(everything)),
        input_tokens=None if inputs is None else int(inputs),
        output_tokens=None if outputs is None else int(outputs),
        speculation=bool(_SPECULATION.search(everything)),
        offload=bool(_OFFLOAD.search(everything)),
    )


def _number(match: re.Match[str]) -> float:
    groups = match.groupdict()
    return float(re.sub("[, ]", "", match["number"])) * (1000 if (groups.get("kilo") or "").strip() else 1)


def _only(values: list[Found], what: str) -> Found | None:
    distinct = list(dict.fromkeys(values))
    if len(distinct) > 1:
        raise UsageError(f"the claim has {len(distinct)} {what}", fix="check one claim at a time")
    return distinct[0] if distinct else None


def _as_count(match: re.Match[str]) -> str:
    return f"{_COUNT_WORDS[match['word']] if match['word'] else match['number']}x "


def _windows(words: list[str]) -> Iterator[str]:
    """Runs of words, longest first, that no gap divides."""
    for length in range(min(_MAX_WINDOW, len(words)), 0, -1):
        for start in range(len(words) - length + 1):
            window = words[start : start + length]
            if "|" not in window:
                yield " ".join(window).strip(" -.:")


def _first(words: list[str], find: Callable[[str], Found | None]) -> Found | None:
    return next((found for window in _windows(words) if window and (found := find(window)) is not None), None)


def _model(words: list[str], text: str) -> ClaimedModel | None:
    published = _first(words, lambda window: find_published(window.removeprefix("meta-").removeprefix("meta ")))
    if published is not None:
        return model_of(ModelReference(published.name, published=published))
    active = _ACTIVE.search(text)
    matches = {match[0]: match for match in _COUNTED.finditer(_ACTIVE.sub(" ", text))}
    sizes = sorted(matches.values(), key=lambda match: float(match["number"]))
    counted = _only(sizes[-1:] if _SPECULATION.search(text) else sizes, "sizes of models")  # beside a draft, the larger
    if counted is None:
        return None
    scale = 1e9 if (counted["unit"] or counted["word"]) == "b" else 1e12
    stated = counted["active"] or (active[1] if active else None)
    total, used = float(counted["number"]) * scale, None if stated is None else float(stated) * 1e9
    if not 0 < (used or total) <= total <= 1e15:
        raise UsageError(f"a model of {counted[0]} parameters is not possible", fix="say its size, such as 8B")
    return model_of_size(total, num_active=used, called=text)


def _hardware(words: list[str], card: Size | None, *, computes: bool) -> tuple[Cluster | None, str | None]:
    sized = _first(words, lambda window: _cluster(f"{window} {card.text}")) if card else None
    known = sized or _first(words, _cluster)
    if known is not None:
        return known, None
    return _first(words, lambda window: _fastest_variant(window, card, computes)) or (None, None)


def _cluster(window: str) -> Cluster | None:
    if not _NAMES_HARDWARE.search(window):
        return None
    try:
        return parse_hardware(window)
    except UsageError:
        return None


def _fastest_variant(window: str, card: Size | None, computes: bool) -> tuple[Cluster, str] | None:
    """Of "a100", which several entries are called: the fastest with the memory that the claim states, in what the claim
    is about: a prefill `computes`, all else reads."""
    match = re.fullmatch(r"(?:(\d{1,3})x\s*)?(?:(\d{1,3})x\s*)?(.*[a-z][\s-]?\d.*)", window)
    try:
        variants = [load_accelerator(id) for id in matching_ids(match[3])] if match else []
    except UsageError:
        return None
    fitting = [entry for entry in variants if card and card.labels(entry)] or variants
    if not fitting or match is None:
        return None
    fastest = max(fitting, key=_compute if computes else _bandwidth)
    node = Node((fastest,) * int(match[2] or match[1] or 1))
    cluster = Cluster((node,) * (int(match[1]) if match[2] else 1))
    return cluster, f"{match[3]} may be {len(fitting)} entries of the catalogue; the fastest, {fastest.id}, is taken"


def _bandwidth(entry: Accelerator) -> float:
    return entry.bandwidth.value if entry.bandwidth else 0.0


def _compute(entry: Accelerator) -> float:
    return max((rate.value for rate in entry.flops.values()), default=0.0)


def _any_card(card: Size) -> tuple[Cluster | None, str | None]:
    """Of the cards that the claim names by their memory alone the one with least usable bytes: it speaks of all."""
    cards = [entry for entry in map(load_accelerator, accelerator_ids()) if card.labels(entry) and entry.usable_bytes]
    if not cards:
        return None, None
    least = min(cards, key=lambda entry: entry.memory_bytes or 0)
    assumption = f"no card is named: read of all {len(cards)} of {card.text} whose usable memory is known"
    return Cluster((Node((least,)),)), assumption
