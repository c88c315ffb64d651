"""What a chat template can take, read off its source: which roles, whether it knows tools, what it insists on.

A template is never run or parsed here (chat.py does that, in a process of its own); these are searches for how the
templates of the common models say things. Each is linear in the source.
"""

import re
from dataclasses import dataclass
from functools import lru_cache

_TOOLS = re.compile(r"\b(?:in|if|not|and|or|set)[ (]{1,4}tools\b|\btools {0,4}(?:\||is\b)")
_WRITES_ROLE = re.compile(r"""(?:\+|~|\{\{-?) {0,4}message(?:\.role\b|\[['"]role['"]\])""")
_NO_SYSTEM = re.compile(r"system (?:role|messages?) (?:is |are )?not supported", re.IGNORECASE)
_SYSTEM_FIRST = re.compile(r"system message must be|initial optional system message", re.IGNORECASE)
_SYSTEM_LAST = re.compile(r"\bloop\.last and system_message\b")
_NINE_CHARACTERS = re.compile(r"\blength {0,4}!= {0,4}9\b|\blength 9\b")
_ONE_CALL = re.compile(r"\btool_calls {0,4}\| {0,4}length {0,4}[!=]= {0,4}1\b|only supports single tool-calls")


@dataclass(frozen=True, slots=True)
class TemplateTraits:
    """`takes_tools`: it describes tools, and writes calls and results; `takes_system`: it has a system role, and
    `one_system` message of it at the head only; `moves_system`: it writes the system text beside the last user message,
    and only if that is the last message of all; `alternates`: it refuses two turns of the same role in a row;
    `one_call`: a message may have one call only; `short_ids`: ids of calls have nine letters or digits;
    `takes_argument_text`: it writes arguments that are JSON text as they are."""

    takes_tools: bool
    takes_developer: bool
    takes_system: bool
    one_system: bool
    moves_system: bool
    alternates: bool
    one_call: bool
    short_ids: bool
    takes_argument_text: bool


@lru_cache(maxsize=64)
def traits_of(source: str) -> TemplateTraits:
    raises = "raise_exception" in source
    alternates = raises and "alternate" in source
    return TemplateTraits(
        takes_tools=_TOOLS.search(source) is not None,
        takes_developer="developer" in source,
        takes_system=_NO_SYSTEM.search(source) is None and ("system" in source or not raises),
        one_system=alternates or _WRITES_ROLE.search(source) is None or _SYSTEM_FIRST.search(source) is not None,
        moves_system=_SYSTEM_LAST.search(source) is not None,
        alternates=alternates,
        one_call=_ONE_CALL.search(source) is not None,
        short_ids=raises and _NINE_CHARACTERS.search(source) is not None,
        takes_argument_text="arguments is string" in source,
    )
