r"""Regular expressions for llguidance: how large one becomes when its repetitions are written out, and a strict reading
of the `pattern` of a JSON schema.

Validators don't agree on a pattern: \d is ten digits or those of all scripts, [[] a bracket or an open class. The
strict reading matches only what all of them match. Knows regular expressions and no JSON.
"""

import re
import warnings

from farthing.engine.grammars.grammar_limits import MAX_REGEX_SIZE, MAX_REPEATS
from farthing.errors import RequestError

_TOKEN = re.compile(r"\\.|\{(\d+)(?:(,)(\d*))?\}|\(\?[^:)=!]*[:)]|\[\^?\]?|.", re.DOTALL)
_CLASS_TOKEN = re.compile(r"\\.|.", re.DOTALL)
# A negation of these matches what no reading of them matches. Python counts 0x1c to 0x1f as spaces.
_WIDE = {"d": r"\p{Nd}", "w": r"\p{L}\p{N}\p{M}_", "s": r"\s\x1c-\x1f"}
_SET_OPERATORS = frozenset("[&~")


def regex_size(source: str) -> int:
    """RequestError if a repetition, or all of them together, are too large."""
    sizes = [0]  # of what the groups around hold so far
    last = 0  # of what a repetition would repeat
    position = 0
    while match := _TOKEN.match(source, position):
        position, token = match.end(), match[0]
        if token.startswith("[") and not token.startswith("\\"):
            position = _class_end(source, position)
        if token[0] == "(" and token[-1] != ")":
            sizes.append(0)
            last = 0
        elif token == ")" and len(sizes) > 1:
            last = sizes.pop() or 1
            sizes[-1] += last
        elif match[1] is not None:
            times = max(_number(match[1]), _number(match[3] or "0"), 1)
            sizes[-1] += last * (times - 1)
            last *= times
        elif token not in ("*", "+", "?", "|"):
            last = 1
            sizes[-1] += 1
        if max(sizes[-1], last) > MAX_REGEX_SIZE:
            raise RequestError(
                f"the regular expression {source[:40]!r} has more than {MAX_REGEX_SIZE:,} characters when its "
                "repetitions are written out",
                fix="lower the numbers in its braces",
            )
    return sum(sizes)


def strict_pattern(source: str, place: str) -> str:
    """The pattern of a JSON schema in the compiler's dialect; all that it matches, Python and ECMAScript match too."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            re.compile(source)
    except (re.error, OverflowError, RecursionError) as error:
        raise RequestError(f"the pattern {source[:40]!r} at {place} is not valid: {error}"[:300]) from error
    regex_size(source)
    parts = []
    position = 0
    while match := _TOKEN.match(source, position):
        position, token = match.end(), match[0]
        if token.startswith("["):
            end = _class_end(source, position)
            parts.append(_strict_class(token, source[position : end - 1]))
            position = end
        elif token[0] == "\\" and token[1].lower() in _WIDE and token[1].isupper():
            parts.append(f"[^{_WIDE[token[1].lower()]}]")
        else:
            parts.append(token)
    return "".join(parts)


def _number(digits: str) -> int:
    value = int(digits) if len(digits) < 10 else MAX_REPEATS + 1
    if value > MAX_REPEATS:
        raise RequestError(f"a regular expression repeats something {digits:.20} times", fix=f"up to {MAX_REPEATS:,}")
    return value


def _class_end(source: str, position: int) -> int:
    """Where the class ends whose opening ended at `position`; a bracket in it stands for itself."""
    while match := _CLASS_TOKEN.match(source, position):
        position = match.end()
        if match[0] == "]":
            break
    return position


def _strict_class(opening: str, inside: str) -> str:
    negated = opening.startswith("[^")
    parts = ["[^" if negated else "["]
    if opening.endswith("]"):
        parts.append(r"\]")
    for token in _CLASS_TOKEN.findall(inside):
        if token[0] == "\\" and token[1].lower() in _WIDE:
            wide = _WIDE[token[1].lower()]
            if token[1].isupper():
                parts.append(f"[^{wide}]" if not negated else token)
            else:
                parts.append(wide if negated else token)
        elif token in _SET_OPERATORS:
            parts.append("\\" + token)
        else:
            parts.append(token)
    return "".join([*parts, "]"])
