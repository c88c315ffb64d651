"""The figures that a plan assumes: each is there, plausible and sourced; a damaged file is refused."""

from pathlib import Path

import pytest

from farthing.errors import FarthingError
from farthing.hardware.defaults import default, defaults


def test_a_fraction_lies_between_nothing_and_all() -> None:
    fractions = [figure.value for name, figure in defaults().items() if "fraction" in name]
    assert len(fractions) == 8
    assert all(0 < fraction <= 1 for fraction in fractions)


def test_a_table_of_numbers_keeps_its_names() -> None:
    assert default("aic_nccl_bytes").value == {"tp2": 358612992, "tp4": 411041792, "tp8": 411041792}


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('a = { value = -1, sources = ["CHS"] }', "value"),
        ("a = { value = 1 }", "sources"),
        ('a = { value = { x = "y" }, sources = ["CHS"] }', "x"),
        ("a = 1", "a"),
    ],
)
def test_a_mistake_in_the_file_is_one_line_with_file_and_key(tmp_path: Path, text: str, key: str) -> None:
    file = tmp_path / "defaults.toml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(FarthingError, match=f"defaults.toml: .*{key}"):
        defaults(file)
