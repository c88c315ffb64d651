"""How models write calls of tools: one file per family, whose name is its registration.

A format file holds one or more ToolFormat named FORMATS. The chat template of a model tells which it was trained on; a
template that knows no tools is taught the Hermes form by a system message (conversation.py). Formats read text through
answer_reader.py; none of them knows an API or a tokenizer.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Protocol

from farthing.discover import load, names
from farthing.engine.tool_calls.answer_reader import Reader, Reading
from farthing.engine.tool_calls.call_reader import Names
from farthing.engine.tool_calls.tool_grammar import Surroundings
from farthing.engine.tool_calls.tools import Tool, ToolChoice
from farthing.sampling_params import Grammar

_FALLBACK = "hermes"


class ToolFormat(Protocol):
    """`markers` are the spellings that must stay visible in the text where the tokenizer has control tokens of them."""

    @property
    def name(self) -> str: ...

    @property
    def markers(self) -> tuple[str, ...]: ...

    def matches(self, template_source: str) -> bool:
        """Whether a model with this chat template writes its calls so."""
        ...

    def grammar(self, tools: Sequence[Tool], choice: ToolChoice, around: Surroundings) -> Grammar | None:
        """What the answer must look like; None where there is no tool to call."""
        ...

    def read(self, reader: Reader, names: Names) -> Reading[None]:
        """Read calls of the tools `names` and the content around them; what is left at the end is content."""
        ...


@lru_cache(maxsize=64)
def choose_format(template_source: str) -> ToolFormat:
    """The format of the model with this chat template."""
    formats = all_formats()
    for tool_format in formats.values():
        if tool_format.matches(template_source):
            return tool_format
    return formats[_FALLBACK]


def all_formats() -> dict[str, ToolFormat]:
    """All formats by name."""
    files = (load(__name__, name) for name in names(__name__))
    return {tool_format.name: tool_format for file in files for tool_format in file.FORMATS}
