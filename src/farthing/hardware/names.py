"""From what people call hardware to devices: `4090`, `8x RTX 4090`, `2x8xh100-sxm`, `4x4090+4x3090`, `NVIDIA A10G`.

A name is matched against the ids, which are file names; a memory size or type in it (`H100 80GB HBM3`) is looked up in
the files that are left. What several files could mean is an error that lists them. Knows no other figure.
"""

import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from farthing.errors import UsageError
from farthing.hardware.accelerator import CATALOG, Accelerator, accelerator_ids, load_accelerator
from farthing.hardware.cluster import Cluster, Node

MAX_DEVICES = 100_000
_MAX_LENGTH = 200
_COUNT = r"(-?[\d.]+)\s*[x×*]\s*"
_NODES_COUNT_NAME = re.compile(rf"{_COUNT}{_COUNT}(.+)", re.I)
_COUNT_NAME = re.compile(rf"{_COUNT}(.+)", re.I)
_NAME_COUNT = re.compile(r"(.+?)\s*[x×*]\s*(\d+)", re.I)
_MEMORY_SIZE = re.compile(r"(?<![a-z\d])(\d+)\s*g(?:i?b)?(?![a-z\d])")
_MEMORY_TYPE = re.compile(r"\b(?:hbm|gddr|lpddr)\d\w?\b")
_SAYS_NOTHING = re.compile(r"\((?:r|tm)\)|@.*|\b\d+-core\b|(?<=ryzen)\s+\d\b")
_NOISE = (
    *("nvidia", "amd", "intel", "google", "aws", "amazon", "apple", "microsoft", "azure", "huawei"),
    *("geforce", "tesla", "quadro", "radeon", "instinct", "platinum", "gold", "hgx", "dgx", "blackwell"),
    *("generation", "edition", "graphics", "processor", "card", "gpu", "cpu"),
)
_SYNONYMS = {"workstation": "ws", "spark": "gb10", "trillium": "v6e", "inf2": "inferentia2", "trn2": "trainium2"}


def parse_hardware(text: str, folder: Path = CATALOG) -> Cluster:
    """The devices that `text` names: groups joined by `+`, each `NAME`, `COUNT x NAME` or `NODES x COUNT x NAME`.

    Groups without a number of nodes share one node. UsageError names the nearest ids, or lists the variants of an
    ambiguous name, or says what is wrong with a count.
    """
    if len(text) > _MAX_LENGTH:
        raise UsageError(f"{text[:40]!r}... is no hardware", fix="name it in fewer letters, like 8x4090")
    in_one_node: list[Accelerator] = []
    nodes: list[Node] = []
    num_devices = 0
    for group in re.split(r"\+(?=\s*\S)", text):  # the + of "Xeon 8480+" has nothing behind it
        num_nodes, count, accelerator = _read_group(group.strip(), folder)
        num_devices += (num_nodes or 1) * count
        if num_devices > MAX_DEVICES:
            raise UsageError(f"{text!r} is more than {MAX_DEVICES:,} devices", fix="name fewer")
        if num_nodes is None:
            in_one_node += [accelerator] * count
        else:
            nodes += [Node((accelerator,) * count)] * num_nodes
    return Cluster((Node(tuple(in_one_node)), *nodes) if in_one_node else tuple(nodes))


def _read_group(group: str, folder: Path) -> tuple[int | None, int, Accelerator]:
    """(number of nodes if it is said, devices in each, which): the first reading whose name is one of the catalogue."""
    readings: list[tuple[str | None, str, str]] = [(None, "1", group)]
    if match := _NODES_COUNT_NAME.fullmatch(group):
        readings.append((match[1], match[2], match[3]))
    if match := _COUNT_NAME.fullmatch(group):
        readings.append((None, match[1], match[2]))
    name_alone = readings[-1][2]  # what an error quotes
    if match := _NAME_COUNT.fullmatch(group):
        readings.append((None, match[2], match[1]))
    for num_nodes, count, name in readings:
        found = _find(name, folder)
        if len(found) > 1:
            raise UsageError(f"{name!r} can be {', '.join(found)}", fix="name one of them")
        if found:
            nodes = None if num_nodes is None else _count(num_nodes)
            return nodes, _count(count), load_accelerator(found[0], folder)
    raise _unknown(name_alone, folder)


def matching_ids(name: str, folder: Path = CATALOG) -> Sequence[str]:
    """The ids that a name without a count can mean, at least one. UsageError names the nearest if there is none."""
    found = _find(name, folder)
    if not found:
        raise _unknown(name, folder)
    return found


def _count(text: str) -> int:
    count = int(text) if text.isdigit() else 0
    if not 1 <= count <= MAX_DEVICES:
        raise UsageError(f"{text} is no number of devices", fix=f"write 1 to {MAX_DEVICES:,}, like 8x4090")
    return count


def _find(name: str, folder: Path) -> Sequence[str]:
    """The ids that `name` can mean; none, one, or the variants of an ambiguous one."""
    text = _SAYS_NOTHING.sub(" ", name.lower())
    ids = accelerator_ids(folder)
    exact = [id for id in ids if _compact(id) == _compact(text)]
    if exact:
        return exact
    sizes, types = _MEMORY_SIZE.findall(text), _MEMORY_TYPE.findall(text)
    rest = _compact(_MEMORY_TYPE.sub(" ", _MEMORY_SIZE.sub(" ", text)))
    found = [
        id
        for id in _named(rest, ids)
        if all(_has_size(id, int(size), folder) for size in sizes)
        and all(kind == (load_accelerator(id, folder).memory_type or "").lower() for kind in types)
    ]
    whole = [id for id in found if set(_model(id)) <= set(_words(rest, ids))]
    return whole if len(whole) == 1 else found


def _named(text: str, ids: Sequence[str]) -> Iterable[str]:
    """The ids that have every word of `text`; if it has other words, those with a word that begins like it."""
    words = [word for word in _words(text, ids) if word not in _NOISE]
    if words:
        return [id for id in ids if set(words) <= set(_parts(id))]
    begins = len(text) >= 3
    return [id for id in ids if begins and any(part.startswith(text) for part in _model(id))]


def _words(text: str, ids: Sequence[str]) -> tuple[str, ...]:
    """`text`, which has no spaces, cut into words of the ids, synonyms and noise; empty if it has anything else."""
    known = {part for id in ids for part in _parts(id)} | {*_SYNONYMS, *_NOISE}
    cut = _cut(text, sorted(known, key=len, reverse=True))
    return tuple(_SYNONYMS.get(word, word) for word in cut or ())


def _cut(text: str, known: Sequence[str]) -> tuple[str, ...] | None:
    if not text:
        return ()
    for word in known:
        if text.startswith(word) and (rest := _cut(text[len(word) :], known)) is not None:
            return (word, *rest)
    return None


def _compact(text: str) -> str:
    """Case and separators say nothing; SXM4 and SXM5 are SXM; the + of a Xeon is a p."""
    text = re.sub(r"sxm\d", "sxm", text.lower())
    return re.sub(r"[\s_\-./]+", "", re.sub(r"(?<=\d)\+$", "p", text.strip()))


def _parts(id: str) -> tuple[str, ...]:
    return tuple(_compact(part) for part in id.split("-"))


def _model(id: str) -> tuple[str, ...]:
    """The words of an id without the series in front: 4090 of rtx-4090."""
    first, *others = _parts(id)
    return tuple(others) if others and first.isalpha() else (first, *others)


def _has_size(id: str, size: int, folder: Path) -> bool:
    if {str(size), f"{size}g"} & set(_parts(id)):
        return True
    nominal = load_accelerator(id, folder).nominal_bytes
    return nominal is not None and size in (round(nominal.value / 2**30), round(nominal.value / 1e9))


def _unknown(name: str, folder: Path) -> UsageError:
    ids = accelerator_ids(folder)
    spellings = {part: part for id in ids for part in _parts(id) if not part.isalpha() and not part.isdigit()}
    spellings |= {spelling: id for id in ids for spelling in ("".join(_model(id)), _compact(id))}
    near = difflib.get_close_matches(_compact(name), spellings, n=3)
    hint = f"did you mean {' or '.join(dict.fromkeys(spellings[match] for match in near))}? " if near else ""
    return UsageError(f"there is no hardware {name!r:.80}", fix=f"{hint}farthing hardware lists what there is")
