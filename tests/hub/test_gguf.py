"""GGUF files of a hub: one of several is chosen, and only its header is read before the plan."""

from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy
import pytest
from loopback_hub import REPOSITORY, LoopbackHub, model, pull, refusal, running_hub

from farthing.hub import download as hub_module
from farthing.hub.cache import cached_weights


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackHub]:
    yield from running_hub(tmp_path, monkeypatch)


def test_one_gguf_file_of_several_is_chosen(hub: LoopbackHub, shared: Path) -> None:
    content = next(iter(sorted((shared / "fixtures").rglob("*.gguf")))).read_bytes()
    names = ("tiny-Q4_K_M.gguf", "tiny-Q8_0.gguf", "README.md", "config.json")
    hub.repositories[REPOSITORY] = dict.fromkeys(names, content)
    error = str(refusal())
    assert "2 GGUF files" in error and "tiny-Q8_0.gguf" in error
    path = pull(f"{REPOSITORY}:q8_0")
    assert path.name == "tiny-Q8_0.gguf" and path.read_bytes() == content
    assert hub.files_asked_for() == {"tiny-Q8_0.gguf"}
    assert cached_weights(model(f"{REPOSITORY}:Q8_0")) == path


def test_a_gguf_file_that_is_none_is_refused_by_its_header(hub: LoopbackHub) -> None:
    hub.repositories[REPOSITORY] = {"tiny.gguf": b"not a header" + bytes(2_000_000)}
    error = str(refusal())
    assert "tiny.gguf is not a GGUF file" in error and "/tmp" not in error


def test_of_a_gguf_file_only_the_header_is_read_before_the_plan(hub: LoopbackHub, tmp_path: Path) -> None:
    content = gguf_file(tmp_path / "tiny.gguf", token_bytes=20_000, num_weights=8_000_000)
    hub.repositories[REPOSITORY] = {"tiny.gguf": content}
    offer = hub_module.inspect(model())
    assert offer.config.size("hidden_size") == 64
    assert [headers["range"] for _, headers in hub.log if "range" in headers] == ["bytes=0-1048575", "bytes=0-16777215"]
    assert offer.num_bytes == offer.num_bytes - offer.present_bytes == len(content) > 32_000_000


def gguf_file(path: Path, *, token_bytes: int, num_weights: int) -> bytes:
    """A LLaMA in GGUF, 100 tokens of this length, with a tensor of so many fp32 numbers."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(160)
    writer.add_block_count(2)
    writer.add_context_length(4096)
    writer.add_head_count(8)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list([f"{number:03}" * (token_bytes // 3) for number in range(100)])
    writer.add_tensor("token_embd.weight", numpy.zeros((100, 64), dtype=numpy.float32))
    writer.add_tensor("blk.0.attn_q.weight", numpy.zeros((num_weights // 64, 64), dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path.read_bytes()
