"""Reading keys of a config.json: right values and defaults come back, wrong ones are one line that names the key."""

import math
from collections.abc import Callable

import pytest

from farthing.errors import ConfigError
from farthing.models.config_reader import MAX_NUMBER, MAX_SIZE, ConfigReader

Read = Callable[[ConfigReader], object]

WRONG: dict[str, tuple[Read, tuple[object, ...]]] = {
    "size": (lambda config: config.size("k"), (0, -1, 1.0, 1.5, "7", True, [7], {}, MAX_SIZE + 1, 10**400, math.nan)),
    "number": (
        lambda config: config.number("k"),
        (0, 0.0, -1, math.nan, math.inf, -math.inf, "1", True, [1.0], 1e-300, 1e300, 10**400, MAX_NUMBER * 2),
    ),
    "number or zero": (lambda config: config.number("k", positive=False), (-1e-9, math.nan, math.inf, False, "0")),
    "flag": (lambda config: config.flag("k"), (0, 1, "true", [], math.nan)),
    "text": (lambda config: config.text("k"), (1, True, ["x"], {}, math.nan)),
    "section": (lambda config: config.section("k"), (1, "x", [1], True, [])),
    "texts": (lambda config: config.texts("k"), ("x", 1, {}, ["x", 1], [None], True)),
    "token ids": (
        lambda config: config.token_ids("k"),
        (-1, 1.0, "2", True, [1, -2], [True], [2**31], {}, [[1]], math.nan),
    ),
}


@pytest.mark.parametrize(("read", "value"), [(read, value) for read, values in WRONG.values() for value in values])
def test_a_wrong_value_is_one_line_that_names_file_key_and_value(read: Read, value: object) -> None:
    with pytest.raises(ConfigError) as refused:
        read(ConfigReader({"k": value}, "config.json"))
    text = str(refused.value)
    assert text.startswith("config.json: k is ") and repr(value)[:40] in text
    assert len(text.splitlines()) == 1 and len(text) < 300
    assert "expected" in refused.value.fix


@pytest.mark.parametrize("name", ["size", "number", "text"])
@pytest.mark.parametrize("values", [{}, {"k": None}], ids=["absent", "null"])
def test_a_key_without_default_must_be_there(name: str, values: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"config\.json: k is (missing|None)"):
        getattr(ConfigReader(values, "config.json"), name)("k")


@pytest.mark.parametrize("values", [{}, {"k": None}], ids=["absent", "null"])
def test_an_absent_key_or_a_null_takes_the_default(values: dict[str, object]) -> None:
    config = ConfigReader(values, "config.json")
    assert (config.size("k", 7), config.number("k", 0.5), config.text("k", "x")) == (7, 0.5, "x")
    assert config.flag("k") is False and config.flag("k", True) is True
    assert (config.texts("k"), config.token_ids("k"), dict(config.section("k").values)) == ((), frozenset(), {})
    assert not config.has("k")


def test_right_values_come_back_as_what_they_are() -> None:
    values = {
        "size": MAX_SIZE,
        "int": 3,
        "float": 1e-5,
        "zero": 0,
        "yes": True,
        "text": "x",
        "list": ["a", "b"],
        "ids": [1, 2],
    }
    config = ConfigReader(values, "config.json")
    assert config.size("size") == MAX_SIZE and config.size("int", 9) == 3
    assert config.number("int") == 3.0 and isinstance(config.number("int"), float) and config.number("float") == 1e-5
    assert config.number("zero", positive=False) == 0.0
    assert config.flag("yes") and config.text("text") == "x" and config.texts("list") == ("a", "b")
    assert config.token_ids("ids") == {1, 2} and config.token_ids("int") == {3}


def test_a_size_may_have_another_limit() -> None:
    config = ConfigReader({"k": 100}, "config.json")
    assert config.size("k", maximum=100) == 100
    with pytest.raises(ConfigError, match="from 1 to 99"):
        config.size("k", maximum=99)


def test_an_error_inside_a_section_names_the_section() -> None:
    config = ConfigReader({"rope_scaling": {"factor": "8"}}, "config.json")
    with pytest.raises(ConfigError, match=r"config\.json: rope_scaling: factor is '8'"):
        config.section("rope_scaling").number("factor")
