"""The page: where and how it was measured, what was wanted beside what came out, and a table for each part."""

from collections.abc import Iterable, Sequence

from on_gpu.cited import CITED
from on_gpu.results import BF16, INVARIANT, MEASURED, SHEET, Results, Row, forecast_ratio, is_as_planned, wanted

VERDICTS = {True: "met", False: "**missed**", None: "not measured"}
_GIB = 2**30

HOW = """\
Llama-3.1-8B's shape with random weights, the KV cache filled by prompts of random tokens. Steps are those of the model
runner below the scheduler: inputs filled, graphs replayed, greedy tokens drawn, as many steps on their way as the
engine has; continuous batching is the whole engine but for text. A share is the floor over what was measured; the floor
of a step is max(bytes moved / bandwidth, operations / peak) of the described ops, by the data sheet, or by the peaks
that a copy and a square product of random numbers reached here. The host gap is the share of a step in which the device
has nothing to do: 1 - the device's seconds for the same step, all of it handed over before, / the wall's."""

QUICK = """\
**A quick run, to see that the script runs: a tiny model, a moment a case. Nothing here says anything about speed.**"""


def page(results: Results, picture: str | None) -> str:
    about, environment = results.about, results.one("environment")
    device = environment["device"] if environment else "an unknown device"
    lines = [f"# Farthing on {device}", ""]
    lines += [QUICK, ""] if about["is_quick"] else []
    lines += [_about(results, environment), "", f"Command: `{about['command']}`. {_line(HOW)}", ""]
    lines += [f"![Shares of the floor]({picture})", ""] if picture else []
    lines += _section("What was wanted", _table(
        ("", "measured", "wanted", ""), "lrrl",
        [(one.what, one.measured, one.wanted, VERDICTS[one.met]) for one in wanted(results)],
    ))  # fmt: skip
    lines += _section("The machine", _machine(results))
    lines += _section("Until it answers, and memory", [*_ready(results), "", *_memory(results)])
    lines += _section("Decode", _steps(results, "decode"))
    lines += _section("Prefill", _steps(results, "prefill"))
    lines += _section("Continuous batching", _mixed(results))
    lines += _section("Greedy answers", _table(
        ("", "tokens compared", "answers that differ"), "lrr",
        [(row["what"], f"{row['compared']:,}", str(row["wrong"])) for row in results.of("greedy")],
    ))  # fmt: skip
    lines += _section("What --batch-invariant costs", _invariant(results))
    lines += _section("Beside transformers", _peers(results))
    lines += _section("Published figures of others, cited and not measured here", _table(
        ("engine", "setting", "tok/s", "source"), "llrl",
        [(one.engine, one.setting, f"{one.tokens_per_second:,.0f}", one.source) for one in CITED],
    ))  # fmt: skip
    lines += _section("Parts of this run", _table(
        ("", "s", ""), "lrl",
        [(part["name"], f"{part['seconds']:.0f}", part["why"] or "measured") for part in results.parts],
    ))  # fmt: skip
    problems = [f"- {row['what']}: {row['why']}" for row in results.of("problem")]
    return "\n".join(lines + (_section("Left out", problems) if problems else []))


def _about(results: Results, environment: Row | None) -> str:
    about = results.about
    parts = [about["date"], f"commit {about['commit']}"]
    if environment is not None:
        versions = {name: version for name, version in environment["versions"].items() if version and name != "cuda"}
        parts += [environment["device"], environment["key"]]
        parts += [f"{name} {version}" for name, version in versions.items() if name != "torch"]
    return " · ".join(parts)


def _machine(results: Results) -> list[str]:
    sheet, measured = (results.one("peaks", source=source) for source in (SHEET, MEASURED))
    rows = []
    if measured is not None:
        names = {"memory, GB/s": lambda one: one["bytes_per_second"] / 1e9}
        for math in measured["flops_per_second"]:
            names[f"{math}, TFLOP/s"] = lambda one, math=math: one["flops_per_second"].get(math, 0.0) / 1e12
        for name, value in names.items():
            rows.append((name, _number(value(sheet)) if sheet else "", _number(value(measured))))
    lines = _table(("", SHEET, MEASURED), "lrr", rows)
    for row in results.of("state"):
        for card in row["cards"]:
            reasons = ", ".join(card["throttle_reasons"]) or "nothing slows it down"
            lines += ["", f"Card {card['index']} {row['when']}: {_number(card['power_watts'])} of "
                      f"{_number(card['power_limit_watts'])} W, {_number(card['temperature_celsius'])} C, {reasons}; "
                      f"driver {card['driver']}."]  # fmt: skip
    for row in results.of("kernel checks"):
        lines += ["", f"Tests of the kernels on this device: {row['line']}."]
        lines += ["", *(f"- `{failure}`" for failure in row["failures"])] if row["failures"] else []
    calibration = results.one("calibration")
    if calibration is not None:
        lines += ["", f"Calibration, measured in {calibration['seconds']:.0f} s and used for every forecast here: "
                  f"[{calibration['file']}]({calibration['file']})."]  # fmt: skip
    return lines


def _ready(results: Results) -> list[str]:
    rows = []
    for row in results.of("ready"):
        first = results.one("first token", format=row["format"])
        seconds = [row[key] for key in ("import_seconds", "plan_seconds", "load_seconds")]
        seconds.append(first["first_token_seconds"] if first else 0.0)
        rows.append((row["format"], row["kernels"], *(f"{one:.2f}" for one in (*seconds, sum(seconds)))))
    return _table(("format", "kernels", "imports s", "plan s", "load s", "first token s", "ready s"), "llrrrrr", rows)


def _memory(results: Results) -> list[str]:
    rows = [
        (
            row["format"],
            *(_gib(row[f"{key}_bytes"]) for key in ("planned_weights", "weights", "planned_kv", "kv")),
            f"{row['kv_tokens']:,}",
            *(_gib(row[f"{key}_bytes"]) for key in ("planned_graphs", "graphs", "planned")),
            _gib(row["bytes_in_use"]),
            "as planned" if is_as_planned(row) else "**off**",
        )
        for row in results.of("memory")
    ]
    head = ("GiB", "weights planned", "taken", "KV planned", "taken", "KV tokens", "graphs planned", "taken",
            "all planned", "in use", "law 3")  # fmt: skip
    return _table(head, "lrrrrrrrrrl", rows)


def _steps(results: Results, section: str) -> list[str]:
    is_decode = section == "decode"
    rows = []
    for row in results.of(section):
        ratio, forecast = forecast_ratio(row), row.get("forecast_seconds")
        size = (f"{row['batch']:,}", f"{row['context']:,}") if is_decode else (f"{row['tokens']:,}",)
        gap = (_share(row["host_share"]),) if is_decode else ()
        rows.append((
            row["format"], *size, _number(row["tokens"] / row["seconds"]), _ms(row["seconds"]),
            _ms(results.floor(row, SHEET)), _bold(_share(results.share(row, SHEET))),
            _share(results.share(row, MEASURED)), _ms(forecast), "" if ratio is None else f"{ratio:.2f}", *gap,
        ))  # fmt: skip
    size, gap = (("batch", "context"), ("host gap",)) if is_decode else (("tokens",), ())
    head = ("format", *size, "tok/s", "ms", "floor ms", "share of data sheet", "of measured peaks", "forecast ms",
            "measured / forecast", *gap)  # fmt: skip
    return _table(head, "l" + "r" * (len(head) - 1), rows)


def _mixed(results: Results) -> list[str]:
    rows = []
    for row in results.of("mixed"):
        tokens, limit = row["prompt_tokens"] + row["output_tokens"], row["limit_seconds"]
        rows.append((
            row["format"], f"{row['prompt_tokens']:,} + {row['output_tokens']:,}", f"{len(row['steps']):,}",
            f"{row['seconds']:.2f}", _number(tokens / row["seconds"]), _number(row["output_tokens"] / row["seconds"]),
            _bold(_share(results.share(row, SHEET))), _share(results.share(row, MEASURED)),
            _share(limit and limit / row["seconds"]), _ratio(row["seconds"], row["forecast_seconds"]),
            _share(row["host_seconds"] and row["host_seconds"] / row["seconds"]),
        ))  # fmt: skip
    head = ("format", "prompt + output tokens", "steps", "s", "tok/s", "output tok/s", "share of the bound",
            "of measured peaks", "of the ledger's limit", "measured / forecast", "outside the executor")  # fmt: skip
    return _table(head, "l" + "r" * (len(head) - 1), rows)


def _invariant(results: Results) -> list[str]:
    rows = []
    for row in results.of("decode", format=INVARIANT):
        plain = results.one("decode", format=BF16, batch=row["batch"], context=row["context"])
        rows.append((
            f"{row['batch']:,}", f"{row['context']:,}", _ms(row["seconds"]), _ms(plain and plain["seconds"]),
            _ratio(row["seconds"], plain and plain["seconds"]),
        ))  # fmt: skip
    return _table(("batch", "context", "ms batch-invariant", "ms otherwise", "times as long"), "rrrrr", rows)


def _peers(results: Results) -> list[str]:
    rows = []
    for row in results.of("peer"):
        same = {key: row[key] for key in ("batch", "context", "tokens")}
        ours = results.one(row["what"], format=BF16, **same)
        what = f"prefill of {row['tokens']:,}" if row["what"] == "prefill" else (
            f"decode, batch {row['batch']}, context {row['context']:,}")  # fmt: skip
        rows.append((
            row["peer"], what, _number(row["tokens"] / row["seconds"]),
            _number(ours and ours["tokens"] / ours["seconds"]), _ratio(row["seconds"], ours and ours["seconds"]),
        ))  # fmt: skip
    return _table(("peer", "bf16", "its tok/s", "Farthing tok/s", "times as fast"), "llrrr", rows)


def _section(title: str, lines: Iterable[str]) -> list[str]:
    return [f"## {title}", "", *lines, ""]


def _table(head: Sequence[str], sides: str, rows: Sequence[Sequence[str]]) -> list[str]:
    if not rows:
        return ["Not measured."]
    marks = ["--:" if side == "r" else "---" for side in sides]
    return [f"| {' | '.join(cells)} |" for cells in (head, marks, *rows)]


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _bold(text: str) -> str:
    return text if text == "-" else f"**{text}**"


def _ratio(value: float, other: float | None) -> str:
    return "" if not other else f"{value / other:.2f}"


def _ms(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1e3:.3f}"


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / _GIB:.2f}"


def _line(text: str) -> str:
    return " ".join(text.split())
