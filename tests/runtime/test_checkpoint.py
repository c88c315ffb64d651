"""Checkpoints as named tensors: every dtype and block type, parts of tensors, shards, damaged and hostile files."""

import json
import os
import random
import struct
import tracemalloc
import warnings
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from farthing.errors import CheckpointError, FarthingError, UnsupportedError
from farthing.models.safetensors_header import DTYPE_BYTES
from farthing.runtime.checkpoint import open_checkpoint
from farthing.runtime.checkpoint_safetensors import DTYPES

NUM_HEADS, NUM_KV_HEADS, HEAD_DIM = 4, 2, 8
Q_PROJ, DOWN_PROJ = "model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.down_proj.weight"
GGUF_Q, GGUF_K, GGUF_DOWN = "blk.0.attn_q.weight", "blk.0.attn_k.weight", "blk.0.ffn_down.weight"

Stored = tuple[np.ndarray, GGMLQuantizationType]


def write_gguf(path: Path, tensors: dict[str, Stored], architecture: str = "llama") -> Path:
    """A tiny but whole model header with `tensors` (their stored bytes and type) behind it."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_embedding_length(NUM_HEADS * HEAD_DIM)
    writer.add_feed_forward_length(64)
    writer.add_block_count(1)
    writer.add_context_length(128)
    writer.add_head_count(NUM_HEADS)
    writer.add_head_count_kv(NUM_KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    embeddings = np.zeros((16, NUM_HEADS * HEAD_DIM), np.float32)
    for name, (data, kind) in {"token_embd.weight": (embeddings, GGMLQuantizationType.F32), **tensors}.items():
        writer.add_tensor(name, data, raw_dtype=kind)
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    return path


def floats(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


def same(found: torch.Tensor, expected: np.ndarray | torch.Tensor) -> bool:
    """Equal bit by bit, NaN included."""
    expected = torch.as_tensor(expected)
    assert found.dtype == expected.dtype and found.shape == expected.shape
    return torch.equal(found.reshape(-1).view(torch.uint8), expected.reshape(-1).view(torch.uint8))


# --- safetensors


def test_every_dtype_of_safetensors_reads_as_it_was_saved(tmp_path: Path) -> None:
    assert {name: dtype.itemsize for name, (dtype, _) in DTYPES.items()} == DTYPE_BYTES
    saved = {
        name: torch.arange(12).reshape(3, 4).to(dtype)
        for name, (dtype, _) in DTYPES.items()
        if dtype is not torch.float8_e8m0fnu
    }
    saved["F8_E8M0"] = torch.arange(120, 132, dtype=torch.uint8).reshape(3, 4).view(torch.float8_e8m0fnu)
    save_file(saved, tmp_path / "model.safetensors")
    with open_checkpoint(tmp_path) as checkpoint:
        assert set(checkpoint.names) == saved.keys()
        for name, tensor in saved.items():
            assert same(checkpoint.read(name), tensor) and checkpoint.shape(name) == (3, 4)
            assert checkpoint.stored_as(name) == DTYPES[name][1]


@pytest.mark.parametrize("shape", [(), (7,), (6, 5), (3, 4, 5)], ids=str)
def test_parts_of_a_tensor_are_slices_of_the_whole(tmp_path: Path, shape: tuple[int, ...]) -> None:
    saved = torch.from_numpy(floats(*shape)) if shape else torch.tensor(2.5)
    save_file({"x": saved}, tmp_path / "model.safetensors")
    with open_checkpoint(tmp_path) as checkpoint:
        assert same(checkpoint.read("x"), saved)
        for rows in (slice(1, 3), slice(2, None), slice(-1, None), slice(4, 2), slice(0, 99)) if shape else ():
            assert same(checkpoint.read("x", rows=rows), saved[rows])
            if len(shape) > 1:
                assert same(checkpoint.read("x", rows=rows, columns=slice(1, 4)), saved[rows][..., 1:4])


def test_tensors_without_elements_read_as_such(tmp_path: Path) -> None:
    save_file({"x": torch.zeros(0, 4), "y": torch.zeros(3, 0)}, tmp_path / "model.safetensors")
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.read("x").shape == (0, 4) and checkpoint.read("y", rows=slice(1, 3)).shape == (2, 0)


def test_shards_read_as_one_checkpoint(tmp_path: Path) -> None:
    parts = {"one.safetensors": {"a": torch.ones(2)}, "two.safetensors": {"b": torch.zeros(3)}}
    for name, tensors in parts.items():
        save_file(tensors, tmp_path / name)
    index = {"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with open_checkpoint(tmp_path) as checkpoint:
        assert set(checkpoint.names) == {"a", "b"}
        assert same(checkpoint.read("a"), torch.ones(2)) and same(checkpoint.read("b"), torch.zeros(3))


def test_data_that_no_one_aligned_reads_all_the_same(tmp_path: Path) -> None:
    header = b'{"x":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}} '
    while len(header) % 8 != 3:
        header += b" "
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + floats(3).tobytes())
    with open_checkpoint(tmp_path) as checkpoint:
        found = checkpoint.read("x")
        assert same(found, floats(3)) and found.data_ptr() % 4 == 0


def test_a_read_tensor_outlives_the_checkpoint_warns_of_nothing_and_never_writes_to_the_file(tmp_path: Path) -> None:
    save_file({"x": torch.ones(4)}, tmp_path / "model.safetensors")
    before = (tmp_path / "model.safetensors").read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with open_checkpoint(tmp_path) as checkpoint:
            found = checkpoint.read("x")
    found += 1
    assert same(found, torch.full((4,), 2.0)) and (tmp_path / "model.safetensors").read_bytes() == before


def test_a_part_of_a_tensor_larger_than_memory_is_mapped_by_itself(tmp_path: Path) -> None:
    rows, columns = 2**29, 2**10
    header = json.dumps(
        {"x": {"dtype": "F32", "shape": [rows, columns], "data_offsets": [0, rows * columns * 4]}}
    ).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header)
    try:
        os.truncate(path, 8 + len(header) + rows * columns * 4)  # 2 TiB, all of it a hole
    except OSError:
        pytest.skip("this file system has no files of that size")
    with open_checkpoint(path) as checkpoint:
        found = checkpoint.read("x", rows=slice(rows - 2, rows), columns=slice(5, 8))
        assert same(found, torch.zeros(2, 3))


def test_a_file_that_shrinks_while_it_is_open_gets_an_error_and_no_crash(tmp_path: Path) -> None:
    save_file({"x": torch.ones(2**20)}, tmp_path / "model.safetensors")
    with open_checkpoint(tmp_path) as checkpoint:
        os.truncate(tmp_path / "model.safetensors", 4096)
        with pytest.raises(CheckpointError, match="can't be mapped"):
            checkpoint.read("x")


# --- GGUF


def dequantisable() -> list[GGMLQuantizationType]:
    found = []
    for kind, (block_elements, block_bytes) in gguf.GGML_QUANT_SIZES.items():
        if block_elements > 1:
            try:
                gguf.quants.dequantize(np.zeros((1, block_bytes), np.uint8), kind)
            except NotImplementedError:
                continue
            found.append(kind)
    return found


def stored_blocks(kind: GGMLQuantizationType, rows: int, columns: int) -> np.ndarray:
    """Quantised by the gguf package where it can, else random bytes, which are blocks as well."""
    block_elements, block_bytes = gguf.GGML_QUANT_SIZES[kind]
    try:
        return gguf.quants.quantize(floats(rows, columns), kind)
    except NotImplementedError:
        return np.random.default_rng(1).integers(0, 256, (rows, columns // block_elements * block_bytes), np.uint8)


@pytest.mark.parametrize("kind", dequantisable(), ids=lambda kind: kind.name)
def test_every_block_type_dequantises_as_the_gguf_package_says(tmp_path: Path, kind: GGMLQuantizationType) -> None:
    columns = 3 * gguf.GGML_QUANT_SIZES[kind][0]
    blocks = stored_blocks(kind, 37, columns)
    noise = np.random.default_rng(2).integers(0, 256, blocks.shape, np.uint8)  # scales of infinity and NaN among them
    path = write_gguf(tmp_path / "x.gguf", {GGUF_DOWN: (blocks, kind), "noise": (noise, kind)})
    with np.errstate(all="ignore"):
        whole, noisy = gguf.quants.dequantize(blocks, kind), gguf.quants.dequantize(noise, kind)
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.stored_as(DOWN_PROJ) == kind.name.lower() and checkpoint.shape(DOWN_PROJ) == (37, columns)
        assert same(checkpoint.read(DOWN_PROJ), whole) and same(checkpoint.read("noise"), noisy)
        assert same(checkpoint.read(DOWN_PROJ, rows=slice(5, 30)), whole[5:30])
        part = checkpoint.read(DOWN_PROJ, rows=slice(36, None), columns=slice(columns // 3 - 1, columns - 5))
        assert same(part, whole[36:, columns // 3 - 1 : columns - 5])


def test_plain_numbers_of_gguf_come_as_they_are(tmp_path: Path) -> None:
    halves, brains = floats(3, 4).astype(np.float16), torch.from_numpy(floats(3, 4)).bfloat16()
    path = write_gguf(tmp_path / "x.gguf", {
        "output_norm.weight": (floats(32), GGMLQuantizationType.F32),
        "half": (halves, GGMLQuantizationType.F16),
        "brain": (brains.view(torch.uint8).numpy(), GGMLQuantizationType.BF16),
        "long": (np.arange(6).reshape(2, 3), GGMLQuantizationType.I64),
        "deep": (floats(2, 3, 4), GGMLQuantizationType.F32),
    })  # fmt: skip
    with open_checkpoint(path) as checkpoint:
        assert same(checkpoint.read("model.norm.weight"), floats(32))
        assert same(checkpoint.read("half"), halves) and checkpoint.stored_as("half") == "fp16"
        assert same(checkpoint.read("brain"), brains) and checkpoint.stored_as("brain") == "bf16"
        assert same(checkpoint.read("long"), np.arange(6).reshape(2, 3))
        assert same(checkpoint.read("deep", rows=slice(1, 2), columns=slice(2, 4)), floats(2, 3, 4)[1:2, :, 2:4])


def interleaved(weight: np.ndarray, num_heads: int) -> np.ndarray:
    """Rows as llama.cpp stores them: row i of a head's first half, then row i of its second."""
    halves = weight.reshape(num_heads, 2, -1, *weight.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weight.shape))


def test_queries_and_keys_of_llama_come_back_in_the_order_of_hugging_face(tmp_path: Path) -> None:
    queries, keys, bias = floats(32, 64), floats(16, 64, seed=1), floats(32, seed=2)
    kind = GGMLQuantizationType.Q8_0
    path = write_gguf(tmp_path / "x.gguf", {
        GGUF_Q: (gguf.quants.quantize(interleaved(queries, NUM_HEADS), kind), kind),
        GGUF_K: (interleaved(keys, NUM_KV_HEADS), GGMLQuantizationType.F32),
        "blk.0.attn_q.bias": (interleaved(bias, NUM_HEADS), GGMLQuantizationType.F32),
    })  # fmt: skip
    rounded = gguf.quants.dequantize(gguf.quants.quantize(queries, kind), kind)
    with open_checkpoint(path) as checkpoint:
        assert same(checkpoint.read(Q_PROJ), rounded)
        assert same(checkpoint.read(Q_PROJ.replace("weight", "bias")), bias)
        for rows in (slice(None), slice(8, 16), slice(3, 13), slice(15, 16)):
            assert same(checkpoint.read(Q_PROJ.replace("q_proj", "k_proj"), rows=rows), keys[rows])
            assert same(checkpoint.read(Q_PROJ, rows=rows, columns=slice(30, 40)), rounded[rows, 30:40])


def test_queries_of_qwen_stand_as_they_are(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "x.gguf", {GGUF_Q: (floats(32, 32), GGMLQuantizationType.F32)}, architecture="qwen2")
    with open_checkpoint(path) as checkpoint:
        assert same(checkpoint.read(Q_PROJ), floats(32, 32))


def test_queries_that_are_no_whole_heads_are_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "x.gguf", {GGUF_Q: (floats(12, 32), GGMLQuantizationType.F32)})
    with pytest.raises(CheckpointError, match="12 rows, not 4 heads of an even size"):
        open_checkpoint(path)


def test_a_block_type_without_dequantiser_and_a_vector_of_blocks_are_refused_at_once(tmp_path: Path) -> None:
    kind = GGMLQuantizationType.Q8_1
    path = write_gguf(tmp_path / "x.gguf", {GGUF_DOWN: (np.zeros((2, 40), np.uint8), kind)})
    with pytest.raises(UnsupportedError, match="Q8_1 blocks"):
        open_checkpoint(path)
    vector = gguf.quants.quantize(floats(32), GGMLQuantizationType.Q8_0)
    path = write_gguf(tmp_path / "y.gguf", {"output_norm.weight": (vector, GGMLQuantizationType.Q8_0)})
    with pytest.raises(UnsupportedError, match=r"vector 'output_norm\.weight' in blocks of Q8_0"):
        open_checkpoint(path)


def test_two_gguf_tensors_of_one_name_are_refused(tmp_path: Path) -> None:
    both = {name: (floats(32), GGMLQuantizationType.F32) for name in ("output_norm.weight", "model.norm.weight")}
    with pytest.raises(CheckpointError, match=r"'model.norm.weight' under two names"):
        open_checkpoint(write_gguf(tmp_path / "x.gguf", both))


def test_dequantising_takes_little_more_memory_than_its_result(tmp_path: Path) -> None:
    blocks = np.random.default_rng(0).integers(0, 256, (1024, 4096 // 256 * 144), np.uint8)
    path = write_gguf(tmp_path / "x.gguf", {GGUF_DOWN: (blocks, GGMLQuantizationType.Q4_K)})
    with open_checkpoint(path) as checkpoint:
        tracemalloc.start()
        found = checkpoint.read(DOWN_PROJ)
        peak_bytes = tracemalloc.get_traced_memory()[1]  # of numpy and Python; the result is torch's
        tracemalloc.stop()
    assert found.nbytes == 16 * 2**20 and peak_bytes < 12 * 2**20


def test_the_real_gguf_checkpoint_reads_under_hugging_face_names(shared: Path) -> None:
    with open_checkpoint(shared / "fixtures/checkpoints/stories260K.gguf") as checkpoint:
        assert len(checkpoint.names) == 48 and checkpoint.shape("lm_head.weight") == (512, 64)
        assert checkpoint.shape(Q_PROJ.replace("q_proj", "k_proj")) == (32, 64)
        for name in checkpoint.names:
            found = checkpoint.read(name)
            assert found.shape == checkpoint.shape(name) and bool(found.isfinite().all())


# --- damaged files


@pytest.fixture(scope="module")
def small_files(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    folder = tmp_path_factory.mktemp("whole")
    save_file({"x": torch.ones(3, 4), "y": torch.ones(2, dtype=torch.float16)}, folder / "x.safetensors")
    blocks = gguf.quants.quantize(floats(4, 64), GGMLQuantizationType.Q4_0)
    q_proj = (floats(32, 32), GGMLQuantizationType.F32)
    write_gguf(folder / "x.gguf", {GGUF_DOWN: (blocks, GGMLQuantizationType.Q4_0), GGUF_Q: q_proj})
    return [(folder / "x.safetensors").read_bytes(), (folder / "x.gguf").read_bytes()]


@settings(max_examples=300)
@given(which=st.integers(0, 1), seed=st.integers(0, 2**32), num_flips=st.integers(1, 4))
def test_a_damaged_checkpoint_reads_to_the_end_or_raises_our_own_error(
    small_files: list[bytes], tmp_path_factory: pytest.TempPathFactory, which: int, seed: int, num_flips: int
) -> None:
    rng = random.Random(seed)
    data = bytearray(small_files[which])
    for _ in range(num_flips):
        data[rng.randrange(min(len(data), 1200))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    path = tmp_path_factory.getbasetemp() / ("damaged.safetensors", "damaged.gguf")[which]
    path.write_bytes(data)
    try:
        with open_checkpoint(path) as checkpoint:
            for name in checkpoint.names:
                assert checkpoint.read(name).shape == checkpoint.shape(name)
    except FarthingError as error:
        assert "\n" not in str(error)


def test_a_torch_pickle_under_the_name_of_safetensors_is_refused(tmp_path: Path) -> None:
    torch.save({"x": torch.ones(4)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"zip archive.*convert the checkpoint to safetensors"):
        open_checkpoint(tmp_path)
