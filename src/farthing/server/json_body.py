"""A body becomes a JSON object, or a RequestError: bounded in depth and in the number of its values before it is built.

msgspec's parser is the strict one: UTF-8 only, no NaN or Infinity, no number out of range, no half of a surrogate
pair; nesting beyond its stack is an exception. What it does not bound is how much a small text becomes: a list of
empty lists takes twenty times its bytes. So what stands outside of strings is counted first. Knows no HTTP.
"""

from collections.abc import Iterable

import msgspec

from farthing.errors import RequestError

MAX_DEPTH = 64
MAX_CONTAINERS = 50_000  # lists, objects and members of objects
MAX_STRINGS = 200_000
MAX_VALUES = 1_250_000  # a prompt of a million token ids is a million values
_CONTAINERS = frozenset((dict, list))


def parse_json(body: bytes) -> dict[str, object]:
    """The object that the body spells; anything else is a RequestError."""
    _check_size(body)
    try:
        value = msgspec.json.decode(body)
    except msgspec.MsgspecError as error:
        raise RequestError(f"the body is not valid JSON: {error}", fix="send one JSON object in UTF-8") from error
    except UnicodeDecodeError as error:
        raise RequestError("the body is not UTF-8", fix="send one JSON object in UTF-8") from error
    except RecursionError as error:
        raise _too_deep(MAX_DEPTH) from error
    if not isinstance(value, dict):
        raise RequestError("the body is not a JSON object", fix="send one JSON object in UTF-8")
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH:  # else it can't be too deep, however many values there are
        check_depth(value)
    return value


def check_depth(value: object, max_depth: int = MAX_DEPTH) -> None:
    """RequestError where lists and objects nest deeper. Goes level by level, so depth costs no stack."""
    level = [value]
    for _ in range(max_depth):
        level = [child for parent in level for child in _children(parent) if type(child) in _CONTAINERS]
        if not level:
            return
    raise _too_deep(max_depth)


def _children(value: object) -> Iterable[object]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _too_deep(max_depth: int) -> RequestError:
    return RequestError(f"the body nests deeper than {max_depth} levels", fix="send a flatter object")


def _check_size(body: bytes) -> None:
    """Counts by whole passes in C, of which ordinary bodies need one: 16 MiB of anything take under 0.1 s."""
    if len(body) - len(body.translate(None, b"[{:,")) <= MAX_CONTAINERS:
        return
    plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")  # now a quote begins or ends a string
    if plain.count(b'"') > 2 * MAX_STRINGS:
        raise RequestError(f"the body has more than {MAX_STRINGS:,} strings", fix="send fewer")
    outside = b"".join(plain.split(b'"')[::2])
    if len(outside) - len(outside.translate(None, b"[{:")) > MAX_CONTAINERS:
        raise RequestError(f"the body has more than {MAX_CONTAINERS:,} lists, objects and members", fix="send fewer")
    if outside.count(b",") > MAX_VALUES:
        raise RequestError(f"the body has more than {MAX_VALUES:,} values", fix="send fewer")
