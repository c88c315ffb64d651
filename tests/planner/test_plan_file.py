"""The plan file: what is written is read again, and whatever an editor leaves in it is a plan or one line."""

import json
import math
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from round_hardware import CONFIG

from farthing.errors import FarthingError, UsageError
from farthing.models.auto import config_of
from farthing.models.reference import find_model
from farthing.planner.hardware import find_hardware
from farthing.planner.plan import Plan, make_plan
from farthing.planner.plan_file import SCHEMA, is_plan_file, load_plan_file, save_plan
from farthing.planner.request import PlanRequest


def plan_of(model: str, request: PlanRequest) -> Plan:
    return make_plan(model, config_of(find_model(model)), find_hardware(request), request)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny model")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder


@pytest.fixture(scope="module")
def written(model: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """What a plan with every flag set looks like."""
    request = PlanRequest(
        on="2x rtx-4090", batch=4, context=2048, memory="85%", p2p=False, price_per_hour=1.5, kv_format="fp8"
    )
    path = tmp_path_factory.mktemp("plans") / "plan.toml"
    save_plan(plan_of(str(model), request), str(model), path)
    return path.read_text(encoding="utf-8")


def read(text: str | bytes, folder: Path) -> PlanRequest:
    path = folder / "edited.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return load_plan_file(str(path)).request


def assert_plan_or_one_line(text: str, folder: Path) -> None:
    """An edited file ends in a plan or in one line of a FarthingError, nothing else."""
    path = folder / "edited.toml"
    path.write_text(text, encoding="utf-8")
    try:
        kept = load_plan_file(str(path))
        plan_of(kept.model, kept.request)
    except FarthingError as error:
        assert "\n" not in str(error) and len(str(error)) < 500
        assert error.fix, str(error)


def test_what_was_planned_is_what_is_read_again(tmp_path: Path):
    asked = PlanRequest(on="4x4090", batch=16, memory="90%", p2p=True, price_per_hour=0.1, max_num_seqs=64)
    plan = plan_of("llama-3.1-70b", asked)
    save_plan(plan, "llama-3.1-70b", tmp_path / "a.toml")
    kept = load_plan_file(str(tmp_path / "a.toml"))
    assert kept.model == "llama-3.1-70b"
    again = plan_of(kept.model, kept.request)
    assert again.placement.layout == plan.placement.layout
    assert again.placement.kv_tokens == plan.placement.kv_tokens
    assert again.best.speed == plan.best.speed
    assert again.price == plan.price


def test_formats_layout_and_context_stand_in_it_resolved(tmp_path: Path):
    plan = plan_of("llama-3.1-70b", PlanRequest(on="4x4090"))
    save_plan(plan, "llama-3.1-70b", tmp_path / "a.toml")
    request = load_plan_file(str(tmp_path / "a.toml")).request
    assert "auto" not in (request.format, request.kv_format)
    assert None not in (request.tp, request.pp, request.replicas, request.context)
    assert request.tp * request.pp * request.replicas == 4


def test_a_cache_in_fp8_keeps_its_spelling(model: Path, tmp_path: Path):
    request = PlanRequest(on="rtx-4090", kv_format="fp8")
    save_plan(plan_of(str(model), request), "x", tmp_path / "a.toml")
    assert load_plan_file(str(tmp_path / "a.toml")).request.kv_format == "fp8"


def test_the_forecast_stands_in_it_and_an_unknown_price_does_not(model: Path, tmp_path: Path):
    save_plan(plan_of(str(model), PlanRequest(on="maia-100")), "x", tmp_path / "a.toml")
    content = tomllib.loads((tmp_path / "a.toml").read_text())
    assert content["schema"] == SCHEMA == "farthing.plan-file/1"
    assert set(content["forecast"]) == {"prefill_seconds", "tpot_seconds", "output_tokens_per_second", "kv_tokens"}
    assert all(math.isfinite(value) and value > 0 for value in content["forecast"].values())


@pytest.mark.parametrize("name", ["a b", 'quote"d', "back\\slash", "new\nline", "中文", "tab\tbed", "del\x7fete", "#x"])
def test_any_name_of_a_model_is_kept(model: Path, tmp_path: Path, name: str):
    save_plan(plan_of(str(model), PlanRequest(on="rtx-4090")), name, tmp_path / "a.toml")
    assert load_plan_file(str(tmp_path / "a.toml")).model == name


def test_a_file_that_cannot_be_written_leaves_nothing_behind(model: Path, tmp_path: Path):
    plan = plan_of(str(model), PlanRequest(on="rtx-4090"))
    (tmp_path / "folder.toml").mkdir()
    for path in (tmp_path / "nowhere" / "a.toml", tmp_path / "folder.toml"):
        with pytest.raises(FarthingError, match=r"can't be written: .* - "):
            save_plan(plan, "x", path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["folder.toml"]


def test_an_older_plan_is_replaced_whole(model: Path, tmp_path: Path):
    path = tmp_path / "a.toml"
    path.write_text("x" * 10**5)
    save_plan(plan_of(str(model), PlanRequest(on="rtx-4090")), "m", path)
    assert load_plan_file(str(path)).model == "m"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.toml"]


def test_only_toml_is_a_plan_file():
    assert is_plan_file("plans/a.toml")
    assert not any(map(is_plan_file, ("llama-3.1-8b", "a.toml.gguf", "toml", "config.json")))


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        (b"", "schema"),
        (b"\xff\xfe\x00", "no TOML"),
        (b"schema = ", "no TOML"),
        (b"a = " + b"[" * 100_000, "no TOML"),
        (b"x" * (2**20 + 10), "no TOML"),
        (b'schema = "farthing.plan-file/2"', "farthing.plan-file/2"),
        (b"schema = [1, 2]", "schema"),
        (b'schema = "farthing.plan-file/1"', "lacks a model"),
        (b'schema = "farthing.plan-file/1"\nmodel = "x"', "[request]"),
        (b'schema = "farthing.plan-file/1"\nmodel = 3\n[request]', "lacks a model"),
        (b'schema = "farthing.plan-file/1"\nmodel = ""\n[request]', "lacks a model"),
        (b'schema = "farthing.plan-file/1"\nmodel = "x"\nrequest = 3', "[request]"),
        (b'schema = "farthing.plan-file/1"\nmodel = "x"\nmodle = 1\n[request]', "'modle'"),
        (b'schema = "farthing.plan-file/1"\nmodel = "x"\n[request]\nbacth = 1', "'bacth'"),
    ],
)
def test_a_file_that_is_no_plan_is_one_line_that_says_what_is_wrong(content: bytes, fragment: str, tmp_path: Path):
    with pytest.raises(UsageError) as refused:
        read(content, tmp_path)
    assert fragment in str(refused.value) and "\n" not in str(refused.value)
    assert "farthing plan MODEL --on HW --save FILE.toml" in refused.value.fix
    assert len(str(refused.value)) < 500


def test_a_file_that_is_not_there_or_is_a_folder_is_one_line(tmp_path: Path):
    (tmp_path / "d.toml").mkdir()
    for name in ("nothing.toml", "d.toml", "a\x00b.toml", "x" * 5000 + ".toml"):
        with pytest.raises(FarthingError, match=r"\.toml"):
            load_plan_file(str(tmp_path / name))


def test_a_file_with_a_request_alone_is_the_defaults(tmp_path: Path):
    assert read('schema = "farthing.plan-file/1"\nmodel = "x"\n[request]\n', tmp_path) == PlanRequest()


@pytest.mark.parametrize(
    ("line", "fragment"),
    [
        ("batch = 0", "--batch is 0"),
        ("batch = true", "batch = True"),
        ("batch = 1.0", "batch = 1.0"),
        ('batch = "4"', "batch = '4'"),
        ("batch = []", "batch"),
        ("context = -5", "--context is -5"),
        ("tp = 99999999999999999999", "--tp"),
        ("price_per_hour = nan", "--price-per-hour is nan"),
        ("price_per_hour = -inf", "--price-per-hour"),
        ("price_per_hour = -0.01", "--price-per-hour"),
        ("price_per_hour = 1e308", "--price-per-hour"),
        ("p2p = 1", "p2p = 1"),
        ("on = 4090", "on = 4090"),
        ("on = 1979-05-27", "on"),
        ('network = "abc"', "--network"),
        ('memory = "200%"', "--memory"),
    ],
)
def test_a_value_that_makes_no_sense_is_named(line: str, fragment: str, tmp_path: Path):
    with pytest.raises(UsageError) as refused:
        read(f'schema = "{SCHEMA}"\nmodel = "x"\n[request]\n{line}\n', tmp_path)
    assert fragment in str(refused.value) and "edited.toml" in str(refused.value)


def test_a_price_in_whole_dollars_is_a_price(tmp_path: Path):
    text = f'schema = "{SCHEMA}"\nmodel = "x"\n[request]\nprice_per_hour = 2\n'
    assert read(text, tmp_path).price_per_hour == 2


NONSENSE = (
    "",
    "-1",
    "0",
    "1e400",
    "99999999999",
    "nan",
    "true",
    '"x"',
    '""',
    "[]",
    "{}",
    "1979-05-27",
    '"' + "9" * 400,
)


def test_every_line_may_be_deleted_doubled_or_replaced_by_nonsense(written: str, tmp_path: Path):
    lines = written.splitlines()
    for index, line in enumerate(lines):
        assert_plan_or_one_line("\n".join(lines[:index] + lines[index + 1 :]), tmp_path)
        assert_plan_or_one_line("\n".join([*lines[:index], line, line, *lines[index + 1 :]]), tmp_path)
        if " = " in line:
            key = line.partition(" = ")[0]
            for value in NONSENSE:
                assert_plan_or_one_line("\n".join([*lines[:index], f"{key} = {value}", *lines[index + 1 :]]), tmp_path)


@settings(max_examples=150)
@given(data=st.data())
def test_numbers_and_texts_of_any_size_are_a_plan_or_one_line(written: str, model: Path, data: st.DataObject):
    """Any one value of the file replaced by another of its own kind."""
    content = tomllib.loads(written)["request"]
    key = data.draw(st.sampled_from(sorted(content)))
    kinds = {bool: st.booleans(), int: st.integers(-10, 2**40), float: st.floats(), str: st.text(max_size=20)}
    value = data.draw(kinds[type(content[key])])
    shown = value if isinstance(value, float) else json.dumps(value)
    text = re.sub(rf"(?m)^{key} = .*$", lambda _: f"{key} = {shown}", written)
    assert_plan_or_one_line(text, model)
