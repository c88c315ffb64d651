"""Flags that know whether they were said, so that a plan file can speak where the command line is silent.

Made from the dataclass whose fields are the flags: the same names, types and help. Knows no command.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields, make_dataclass
from typing import Annotated, Any, get_args

from cyclopts import Parameter, Token


def may_be_unsaid(options: type, module: str) -> Any:
    """A dataclass like `options` in which every flag that is not said is None; its help shows the defaults."""
    namespace = {"__doc__": options.__doc__, "__module__": module}  # cyclopts reads both
    return make_dataclass(f"Said{options.__name__}", _unsaid_fields(options), frozen=True, namespace=namespace)


def said(flags: Any) -> dict[str, Any]:
    """The flags that were said."""
    return {name: value for name, value in asdict(flags).items() if value is not None}


def _whole_number(_: type, tokens: Sequence[Token]) -> int:
    """The parser itself would round 1.5 to 2."""
    text = tokens[0].value
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"{text!r:.60} is no whole number") from None


def _unsaid_fields(options: Any) -> Iterator[tuple[str, Any, None]]:
    for field in fields(options):
        kind, *metadata = get_args(field.type) if hasattr(field.type, "__metadata__") else (field.type,)
        shown = None if field.default is None or field.default is False else str(field.default)
        negative = f"--no-{field.name.replace('_', '-')}" if kind == (bool | None) else None if kind is bool else ()
        converter = _whole_number if kind in (int, int | None) else None
        show = False if shown is None else lambda _, text=shown: text
        parameter = Parameter(negative=negative, show_default=show, converter=converter)
        yield field.name, Annotated[kind | None, parameter, *metadata], None
