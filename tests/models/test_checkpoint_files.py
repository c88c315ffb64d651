"""Which files hold the weights: folders, shards and their index, hub cache; traversal, links, pickles (S17, S22)."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from farthing.errors import CheckpointError, ModelNotFoundError
from farthing.models.checkpoint_files import INDEX_NAME, find_weights, read_entries

FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"


def shard(path: Path, *names: str) -> Path:
    save_file({name: np.zeros(2, np.float32) for name in names}, path)
    return path


def index(folder: Path, weight_map: object) -> None:
    (folder / INDEX_NAME).write_text(json.dumps({"metadata": {"total_size": 16}, "weight_map": weight_map}))


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    shard(tmp_path / FIRST, "a", "b")
    shard(tmp_path / SECOND, "c")
    index(tmp_path, {"a": FIRST, "b": FIRST, "c": SECOND})
    return tmp_path


def test_the_shards_of_an_index_give_all_tensors_with_their_files(sharded: Path) -> None:
    entries = read_entries(find_weights(sharded))
    assert {name: path.name for name, (path, _) in entries.items()} == {"a": FIRST, "b": FIRST, "c": SECOND}


def test_one_file_is_preferred_to_an_index_and_safetensors_to_gguf(sharded: Path) -> None:
    shard(sharded / "model.safetensors", "whole")
    (sharded / "x.gguf").write_bytes(b"GGUF")
    assert read_entries(find_weights(sharded)).keys() == {"whole"}


def test_a_file_that_is_named_is_taken_as_it_is(tmp_path: Path) -> None:
    assert find_weights(shard(tmp_path / "other.safetensors", "a")).files == (tmp_path / "other.safetensors",)
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    assert find_weights(tmp_path / "x.gguf").is_gguf


def test_the_only_gguf_of_a_folder_is_its_model_and_two_are_a_question(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"GGUF")
    assert find_weights(tmp_path).files == (tmp_path / "a.gguf",)
    (tmp_path / "b.gguf").write_bytes(b"GGUF")
    with pytest.raises(CheckpointError, match=r"2 GGUF files.*name one.*a\.gguf"):
        find_weights(tmp_path)


def test_a_real_index_names_its_shards_and_the_missing_one(shared: Path, tmp_path: Path) -> None:
    real = shared / "fixtures/weight-index/Mistral-7B-Instruct-v0.3.model.safetensors.index.json"
    (tmp_path / INDEX_NAME).write_bytes(real.read_bytes())
    with pytest.raises(CheckpointError, match=r"model-00001-of-00003\.safetensors is missing"):
        find_weights(tmp_path)
    for number in (1, 2, 3):
        (tmp_path / f"model-0000{number}-of-00003.safetensors").touch()
    weights = find_weights(tmp_path)
    assert len(weights.files) == 3 and sum(map(len, weights.index.values())) == 291


TRAVERSAL = (
    "../secret.safetensors", "../../../../etc/passwd", "/etc/passwd", "/tmp/x.safetensors", "sub/x.safetensors", "..",
    "..\\x.safetensors", "x.safetensors\n", "x\0.safetensors", ".safetensors", "", "file:///x.safetensors",
    7, None, ["x"],
)  # fmt: skip


@pytest.mark.parametrize("name", TRAVERSAL, ids=repr)
def test_an_index_can_only_name_files_of_its_folder(tmp_path: Path, name: object) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    shard(tmp_path / "secret.safetensors", "a")
    index(folder, {"a": name})
    with pytest.raises(CheckpointError, match=r"no \.safetensors file of its folder") as caught:
        find_weights(folder)
    assert str(caught.value).isprintable()


def test_an_index_of_pickles_is_refused_with_the_advice_to_convert(tmp_path: Path) -> None:
    index(tmp_path, {"a": "pytorch_model-00001-of-00002.bin"})
    with pytest.raises(CheckpointError, match="convert the checkpoint to safetensors"):
        find_weights(tmp_path)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "consolidated.00.pth", "last.ckpt", "weights.pkl"])
def test_a_pickle_is_refused_unread_with_the_advice_to_convert(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name)  # opening it would wait for ever
    with pytest.raises(CheckpointError, match="convert the checkpoint to safetensors"):
        find_weights(tmp_path)
    (tmp_path / name).unlink()
    (tmp_path / name).write_bytes(b"\x80\x04")
    with pytest.raises(CheckpointError, match="convert the checkpoint to safetensors"):
        find_weights(tmp_path / name)


BAD_INDEXES = {
    "not JSON": b"{",
    "not UTF-8": b'{"weight_map": {"\xff": "x.safetensors"}}',
    "a list": b"[]",
    "no map": b"{}",
    "an empty map": b'{"weight_map": {}}',
    "a map that is a list": b'{"weight_map": ["x.safetensors"]}',
    "a tensor twice": b'{"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}}',
    "nested too deeply": b"[" * 100_000,
    "too large": b" " * (33 * 2**20),
}


@pytest.mark.parametrize("content", BAD_INDEXES.values(), ids=BAD_INDEXES)
def test_a_damaged_index_gets_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / INDEX_NAME).write_bytes(content)
    with pytest.raises(CheckpointError, match=INDEX_NAME) as caught:
        find_weights(tmp_path)
    assert "\n" not in str(caught.value) and caught.value.fix


def test_a_missing_shard_is_named(sharded: Path) -> None:
    (sharded / SECOND).unlink()
    with pytest.raises(CheckpointError, match=f"{SECOND} is missing"):
        find_weights(sharded)


def test_a_tensor_that_the_shard_lacks_or_the_index_does_not_name_is_named(sharded: Path) -> None:
    index(sharded, {"a": FIRST, "b": FIRST, "c": SECOND, "gone": SECOND})
    with pytest.raises(CheckpointError, match=f"{SECOND} lacks 1 tensors such as 'gone'"):
        read_entries(find_weights(sharded))
    index(sharded, {"a": FIRST, "c": SECOND})
    with pytest.raises(CheckpointError, match=f"{FIRST} has, without the index, 1 tensors such as 'b'"):
        read_entries(find_weights(sharded))


def test_links_out_of_the_folder_are_refused_and_links_inside_are_not(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    shard(tmp_path / "elsewhere.safetensors", "a")
    (folder / "model.safetensors").symlink_to("../elsewhere.safetensors")
    with pytest.raises(CheckpointError, match="link out of its folder"):
        find_weights(folder)
    (tmp_path / "elsewhere.safetensors").rename(folder / "real.safetensors")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to("real.safetensors")
    assert read_entries(find_weights(folder)).keys() == {"a"}


def test_a_dangling_link_a_circle_and_a_pipe_are_no_weights(tmp_path: Path) -> None:
    model = tmp_path / "model.safetensors"
    model.symlink_to("absent")
    with pytest.raises(CheckpointError, match="missing"):
        find_weights(tmp_path)
    model.unlink()
    model.symlink_to("model.safetensors")
    with pytest.raises(CheckpointError, match="missing"):
        find_weights(tmp_path)
    model.unlink()
    os.mkfifo(model)
    with pytest.raises(CheckpointError, match="no file"):
        find_weights(tmp_path)


def test_the_hub_cache_may_link_to_its_own_blobs_only(tmp_path: Path) -> None:
    snapshot, blobs = tmp_path / "models--x--y/snapshots/0123", tmp_path / "models--x--y/blobs"
    snapshot.mkdir(parents=True)
    blobs.mkdir()
    shard(blobs / "feed", "a")
    shard(blobs.parent / "other", "b")
    (snapshot / "model.safetensors").symlink_to("../../blobs/feed")
    assert read_entries(find_weights(snapshot)).keys() == {"a"}
    (snapshot / "model.safetensors").unlink()
    (snapshot / "model.safetensors").symlink_to("../../other")
    with pytest.raises(CheckpointError, match="link out of its folder"):
        find_weights(snapshot)


def test_a_folder_without_weights_and_a_path_that_is_not_there_say_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds no model\.safetensors"):
        find_weights(tmp_path)
    with pytest.raises(ModelNotFoundError, match="there is no"):
        find_weights(tmp_path / "absent")
    (tmp_path / "weights.h5").touch()
    with pytest.raises(CheckpointError, match=r"neither \.safetensors nor \.gguf"):
        find_weights(tmp_path / "weights.h5")
