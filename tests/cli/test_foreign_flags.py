"""Flags of other tools are answered with what does the same here, and every flag of ours that is named exists."""

import pytest
from test_docs import COMMANDS, flags_in, flags_of

from farthing.cli import foreign_flags
from farthing.cli.app import main


@pytest.mark.parametrize(
    ("arguments", "ours"),
    [
        (["plan", "llama-3.1-8b", "--quantization", "awq"], "--format"),
        (["plan", "llama-3.1-8b", "--max-model-len", "8192"], "--context"),
        (["plan", "llama-3.1-8b", "--max-model-len=8192"], "--context"),
        (["run", "hello", "-ngl", "35"], "all layers"),
        (["plan", "llama-3.1-8b", "--tensor-parallel-size", "4"], "--tp"),
    ],
)
def test_a_flag_of_another_tool_gets_the_flag_that_does_the_same_here(
    arguments: list[str], ours: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    error = capsys.readouterr().err
    assert exit_.value.code == 2
    assert error.count("\n") == 1
    assert f"there is no flag {arguments[2].partition('=')[0]}" in error
    assert "here it is" in error and ours in error


def test_every_flag_that_a_hint_names_exists_in_a_command() -> None:
    named = {flag for ours in foreign_flags._HINTS.values() for flag in flags_in(ours)}
    assert named <= flags_of().union(*map(flags_of, COMMANDS))


def test_no_hint_stands_for_a_flag_that_every_command_has_itself() -> None:
    assert not set(foreign_flags._HINTS) & frozenset[str].intersection(*map(flags_of, COMMANDS))
