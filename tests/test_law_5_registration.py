"""Law 5: a file's name is its registration. One file dropped in, nothing else touched, and it is there."""

import sys
from pathlib import Path

import pytest

from farthing import quantization
from farthing.hardware.accelerator import CATALOG
from farthing.hardware.names import parse_hardware
from farthing.models import families
from farthing.models.auto import describe
from farthing.models.config_reader import ConfigReader
from farthing.models.spec import Precision
from farthing.quantization.base import formats, resolve

CONFIG = {
    "architectures": ["NovelForCausalLM"],
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "vocab_size": 320,
}
A_FAMILY = """
from farthing.models.decoder_spec import decoder_spec

ARCHITECTURE = "NovelForCausalLM"


def build(config, precision):
    return decoder_spec(config, precision, family="novel", qk_norm=True)
"""
A_FORMAT = """
from farthing.quantization.base import WeightFormat

FORMATS = (WeightFormat("w6a16", math="bf16", bits=6, storage="uint8", scale_dtype="bf16", group_size=64),)
"""


def drop(package: object, name: str, text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file beside those of a package, gone after the test."""
    (folder / f"{name}.py").write_text(text)
    monkeypatch.setattr(package, "__path__", [*package.__path__, str(folder)])
    monkeypatch.setitem(sys.modules, f"{package.__name__}.{name}", None)
    del sys.modules[f"{package.__name__}.{name}"]


def test_a_model_family(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drop(families, "novel", A_FAMILY, tmp_path, monkeypatch)
    spec = describe(ConfigReader(CONFIG, "config.json"), Precision.of(resolve("bf16", "cuda")))
    assert spec.family == "novel" and spec.layers[0].q_norm is not None


def test_a_weight_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drop(quantization, "w6a16", A_FORMAT, tmp_path, monkeypatch)
    assert formats()["w6a16"].nbytes(8, 128) == 8 * 128 * 6 // 8 + 8 * 2 * 2


def test_an_accelerator(tmp_path: Path) -> None:
    text = (CATALOG / "rtx-4090.toml").read_text(encoding="utf-8").replace("GeForce RTX 4090", "GeForce RTX 7090")
    (tmp_path / "rtx-7090.toml").write_text(text, encoding="utf-8")
    assert [device.id for device in parse_hardware("2x 7090", tmp_path).devices] == ["rtx-7090", "rtx-7090"]
