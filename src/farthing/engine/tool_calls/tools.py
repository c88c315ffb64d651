"""Tools that a model may call, and what a request says about calling them: plain values.

Knows no format of any model (formats/) and no dialect of an API: the server makes these from its requests.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from farthing.errors import RequestError


@dataclass(frozen=True, slots=True)
class Tool:
    """A function of the caller. `parameters` is the JSON schema of its arguments, None where the caller gave none.
    `strict`: the caller wants the schema obeyed or the request refused."""

    name: str
    description: str | None = None
    parameters: Mapping[str, Any] | None = None
    strict: bool = False

    def as_function(self) -> dict[str, Any]:
        """The shape that chat templates read; always the same keys in the same order, so that prompts stay the same."""
        function: dict[str, Any] = {"name": self.name}
        if self.description is not None:
            function["description"] = self.description
        function["parameters"] = {"type": "object", "properties": {}} if self.parameters is None else self.parameters
        return {"type": "function", "function": function}


@dataclass(frozen=True, slots=True)
class ToolChoice:
    """Whether the model may ("auto"), must not ("none"), must call any ("required") or the one `name` ("named").
    `parallel`: it may make several calls in one answer."""

    mode: Literal["auto", "none", "required", "named"] = "auto"
    name: str | None = None
    parallel: bool = True

    def __post_init__(self) -> None:
        assert (self.mode == "named") == (self.name is not None)

    @property
    def demands_call(self) -> bool:
        return self.mode in ("required", "named")

    def select(self, tools: Sequence[Tool]) -> tuple[Tool, ...]:
        """Those of `tools` that the model may call."""
        if self.mode == "none":
            return ()
        if self.demands_call and not tools:
            raise RequestError("tool_choice demands a call, but there are no tools", fix="add tools, or use 'auto'")
        chosen = tuple(tool for tool in tools if self.name in (None, tool.name))
        if tools and not chosen:
            raise RequestError(f"tool_choice names {self.name!r:.80}", fix="it must be one of the tools of the request")
        return chosen
