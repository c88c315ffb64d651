"""What is compared: engines in groups that are in memory together, the cases of each group, and what is wanted of each.

Data alone. `tokens` of a case over the seconds of its command is its tokens/s; ratios are Farthing's tokens/s to the
peer's.
"""

from dataclasses import dataclass, field

from farthing.ops.batch import BatchShape
from peers.protocol import workload

SHORT, LONG = 32, 4032  # tokens of context: a few, and 4k with room for the steps in a context of 4,096
NUM_REQUESTS, NUM_SEQUENCES, SEED = 64, 16, 0


@dataclass(frozen=True, slots=True)
class System:
    """`engine`: its name on the page. `threads` 0: as many as it chooses."""

    engine: str
    worker: str
    model: str
    format: str
    threads: int

    @property
    def name(self) -> str:
        threads = f", {self.threads} thread{'s' * (self.threads > 1)}" if self.model != "1b" and self.threads else ""
        return f"{self.engine} {self.format}{threads}"


@dataclass(frozen=True, slots=True)
class Case:
    """`peers`: by engine, the ratio that is wanted, or None to report it. `share`: of the floor of `shape` that is
    wanted; with `either`, it or the ratio is enough, but never less than the ratio `ratio_anyway`."""

    title: str
    command: str
    tokens: int
    peers: dict[str, float | None]
    shape: BatchShape | None = None
    share: float | None = None
    either: bool = False
    ratio_anyway: float | None = None
    max_rounds: int = 99


@dataclass(frozen=True, slots=True)
class Group:
    """`peers`: the systems that Farthing's is compared with."""

    name: str
    title: str
    model: str
    ours: System
    peers: tuple[System, ...]
    cases: tuple[Case, ...] = field(default=())


def groups(num_threads: int, *, quick: bool = False) -> tuple[Group, ...]:
    """`quick`: fewer and shorter cases, to see that everything runs; the small models alone have all of theirs."""
    return (
        _steps("bf16", "bf16", num_threads, quick),
        _steps("int8", "q8_0", num_threads, quick),
        _steps("int4", "q4_0", num_threads, quick),
        _small("15m", "A 15M LLaMA", "int8", "q8_0", {1: 1.5, 16: 2.0}, num_threads),
        _small("bundled", "The bundled model (3.5M)", "bf16", "bf16", {1: None, 16: None}, num_threads),
        _serving(num_threads, quick),
    )


def _steps(name: str, llama_cpp: str, num_threads: int, quick: bool) -> Group:
    """The 1.1B shape in one format, step by step."""
    peers = [System("llama.cpp", "llama_cpp_worker.py", "1b", llama_cpp, num_threads)]
    if name == "bf16":
        peers.append(System("transformers", "transformers_worker.py", "1b", "bf16", num_threads))
    else:
        peers.append(System("OpenVINO GenAI", "openvino_worker.py", "1b", llama_cpp, num_threads))
    if name == "int8":
        peers.append(System("CTranslate2", "ctranslate2_worker.py", "1b", "int8", num_threads))
    cases = _step_cases(name)
    return Group(
        name,
        f"1.1B LLaMA, {name}",
        "1b",
        System("Farthing", "farthing_steps.py", "1b", name, num_threads),
        tuple(peers),
        tuple(case for case in cases if "2,048" not in case.title and "4k" not in case.title) if quick else cases,
    )


def _step_cases(name: str) -> tuple[Case, ...]:
    """The longest have fewer rounds, and not the peers of which nothing is wanted."""
    prefill: dict[str, float | None] = {
        "bf16": {"llama.cpp": 1.3, "transformers": 1.15},
        "int8": {"llama.cpp": 3.0, "CTranslate2": 1.15},
        "int4": {"llama.cpp": 2.0},
    }[name]
    openvino: dict[str, float | None] = {} if name == "bf16" else {"OpenVINO GenAI": None}
    others: dict[str, float | None] = {"bf16": {"transformers": None}, "int8": {"CTranslate2": None}}.get(name, {})
    one, sixteen = {"bf16": (1.05, 1.4), "int8": (1.2, 3.0), "int4": (1.2, 1.8)}[name]
    return (
        Case("prefill of 512", "prefill 512", 512, prefill | openvino, BatchShape.prefill(512),
             share={"bf16": 0.66, "int8": 0.55}.get(name), max_rounds=3),
        Case("prefill of 2,048", "prefill 2048", 2048, prefill, BatchShape.prefill(2048), max_rounds=2),
        _decode("decode, batch 1", 1, SHORT, 24, {"llama.cpp": one, **others, **openvino},
                share={"bf16": 0.88, "int8": 0.85, "int4": 0.80}[name], either=True, ratio_anyway=1.03),
        _decode("decode, batch 16", 16, SHORT, 12, {"llama.cpp": sixteen, **(others if name == "int8" else {})}),
        _decode("decode, batch 64", 64, SHORT, 4, {"llama.cpp": None}, max_rounds=3),
        _decode("decode at 4k, batch 1", 1, LONG, 12, {"llama.cpp": one},
                share=0.88 if name == "bf16" else None, either=name == "bf16"),
        _decode("decode at 4k, batch 16", 16, LONG, 4, {"llama.cpp": None}, max_rounds=3),
    )  # fmt: skip


def _decode(
    title: str,
    batch: int,
    context: int,
    num_steps: int,
    peers: dict[str, float | None],
    *,
    share: float | None = None,
    either: bool = False,
    ratio_anyway: float | None = None,
    max_rounds: int = 99,
) -> Case:
    shape = BatchShape.decode(context + num_steps // 2, batch)
    command = f"decode {batch} {context} {num_steps}"
    return Case(title, command, batch * num_steps, peers, shape, share, either, ratio_anyway, max_rounds)


def _small(model: str, title: str, ours: str, theirs: str, wanted: dict[int, float | None], num_threads: int) -> Group:
    """Farthing through `LLM.generate`, llama.cpp as bare calls; the one chooses its threads, so the other gets both."""
    peers = tuple(
        System("llama.cpp", "llama_cpp_worker.py", model, theirs, threads) for threads in sorted({1, num_threads})
    )
    cases = tuple(
        Case(f"decode, batch {batch}", f"decode {batch} {SHORT} {steps}", batch * steps, {"llama.cpp": wanted[batch]})
        for batch, steps in ((1, 256), (16, 64))
    )
    ours_system = System("Farthing", "farthing_llm.py", model, ours, 0)
    return Group(model, f"{title}, {ours}, through LLM.generate", model, ours_system, peers, cases)


def _serving(num_threads: int, quick: bool) -> Group:
    num_requests = 4 if quick else NUM_REQUESTS
    case = Case(
        f"{num_requests} requests, {NUM_SEQUENCES} at a time",
        f"serve {num_requests} {NUM_SEQUENCES} {SEED}",
        sum(map(sum, workload(num_requests, SEED))),
        {"llama.cpp": 2.5},
        max_rounds=1,
    )
    return Group(
        "serving",
        "1.1B LLaMA, int8, continuous batching",
        "1b",
        System("Farthing", "farthing_llm.py", "1b", "int8", num_threads),
        (System("llama.cpp", "llama_cpp_worker.py", "1b", "q8_0", num_threads),),
        (case,),
    )
