"""The memory map: a bar for each way in which devices are filled, and its figures. Knows no seconds."""

from farthing.planner.page.bars import Segment, legend, stacked
from farthing.planner.page.html import Html, element, table
from farthing.planner.page.report_page import MemoryGroup, ReportPage
from farthing.planner.page.words import Words
from farthing.units import format_bytes

_PARTS = ("weights", "kv", "activations", "reserve", "free")
_MAX_BARS = 16


def memory_section(page: ReportPage, words: Words) -> Html:
    plan, groups = page.plan, page.memory
    whole = max(group.usable_bytes + group.missing_bytes for group in groups)
    bars: list[Html] = []
    for group in groups[:_MAX_BARS]:
        title = [element("b", words.say("memory.group", {"count": group.count, "device": group.device}))]
        title.append(element("span.faint", " · ".join(_which(group, page, words))))
        segments = [Segment(size, part, f"{name}: {format_bytes(size)}") for part, name, size in _sizes(group, words)]
        name = words.say("memory.label", {"device": group.device})
        bars.append(element("p.bar-title", title))
        bars.append(stacked(segments, whole, name, mark=group.usable_bytes))
    context = f"{plan.placement.context:,}"
    said = {
        "bytes": format_bytes(plan.spec.kv_bytes_per_token),
        "tokens": f"{plan.placement.kv_tokens:,}",
        "sequences": f"{plan.placement.num_sequences:,}",
        "context": context,
    }
    line = words.say("memory.kv_line", said) if plan.fits else words.say("memory.lacks_line", {"context": context})
    keys = [(part, words[f"memory.{part}"]) for part in _PARTS]
    keys += [] if plan.fits else [("over", words["memory.missing"])]
    if len(groups) == 1:
        keys = [(part, f"{name} {format_bytes(size)}") for part, name, size in _sizes(groups[0], words)]
        missing, usable = groups[0].missing_bytes, f"{words['memory.usable']} {format_bytes(groups[0].usable_bytes)}"
        keys += [("over", f"{words['memory.missing']} {format_bytes(missing)}")] if missing else []
        keys.append(("mark", usable))
    return element(
        "section",
        [
            element("h2", words["memory.title"]),
            element("p.lead", words["memory.lead"]),
            *bars,
            legend(keys),
            _figures(groups, words) if len(groups) > 1 else "",
            element("p.note", line),
        ],
    )


def _sizes(group: MemoryGroup, words: Words) -> list[tuple[str, str, int]]:
    """(colour, name, bytes) of each part, in the order of the bar."""
    kv = "memory.kv_one" if group.missing_bytes else "memory.kv"
    return [
        ("weights", words["memory.weights"], group.weights_bytes),
        ("kv", words[kv], group.kv_bytes),
        ("activations", words["memory.activations"], group.activation_bytes),
        ("reserve", words["memory.reserve"], group.reserve_bytes),
        ("free", words["memory.free"], group.free_bytes),
    ]


def _which(group: MemoryGroup, page: ReportPage, words: Words) -> list[str]:
    parts = [words.say("memory.numbers", {"devices": group.devices})] if len(page.plan.placement.ranks) > 1 else []
    if group.stages:
        parts.append(words.say("memory.stage", {"stages": group.stages}))
    return [*parts, words.say("memory.all_layers", {"layers": group.layers})]


def _figures(groups: tuple[MemoryGroup, ...], words: Words) -> Html:
    """A row for each part, a column for each group; the other way round where groups are many."""
    lacks = any(group.missing_bytes for group in groups)
    names = [name for _, name, _ in _sizes(groups[0], words)]
    names += [words["memory.usable"]] + [words["memory.missing"]] * lacks
    columns = []
    for group in groups:
        sizes = [size for _, _, size in _sizes(group, words)] + [group.usable_bytes] + [group.missing_bytes] * lacks
        columns.append([format_bytes(size) for size in sizes])
    titles = [f"{group.count} x {group.device}" for group in groups]
    if len(groups) > 3:
        stages = [f"{title} · {group.devices}" for title, group in zip(titles, groups, strict=True)]
        return table([words["memory.device"], *names], [[a, *b] for a, b in zip(stages, columns, strict=True)])
    rows = [[name, *(column[row] for column in columns)] for row, name in enumerate(names)]
    return table(["", *titles], rows)
