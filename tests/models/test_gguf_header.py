"""Hostile, damaged and valid GGUF headers (attack classes S30 and S31)."""

import random
import struct
import time
import tracemalloc
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing.errors import CheckpointError, FarthingError, UnsupportedError
from farthing.models.gguf_header import BLOCK_TYPES, GgufTensor, read_gguf_header

U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)


def text(value: str | bytes) -> bytes:
    raw = value.encode() if isinstance(value, str) else value
    return struct.pack("<Q", len(raw)) + raw


def pair(key: str, kind: int, value: bytes) -> bytes:
    return text(key) + struct.pack("<I", kind) + value


def array(kind: int, count: int, items: bytes = b"") -> bytes:
    return struct.pack("<IQ", kind, count) + items


def tensor(
    name: str = "t", dims: tuple[int, ...] = (4,), kind: int = 0, offset: int = 0, num_dims: int | None = None
) -> bytes:
    count = len(dims) if num_dims is None else num_dims
    return text(name) + struct.pack(f"<I{len(dims)}QIQ", count, *dims, kind, offset)


def file_of(pairs: tuple[bytes, ...] = (), tensors: tuple[bytes, ...] = (), data: int = 0, version: int = 3) -> bytes:
    """A whole GGUF file with `data` zero bytes behind the header, which is padded to 32."""
    header = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(pairs)) + b"".join(pairs + tensors)
    return header + bytes(-len(header) % 32) + bytes(data)


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def valid_file(path: Path) -> Path:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint32("llama.block_count", 2)
    writer.add_float64("x.f64", 0.5)
    writer.add_int8("x.i8", -3)
    writer.add_bool("x.bool", True)
    writer.add_array("x.numbers", [1, 2, 3])
    writer.add_array("x.bools", [True, False])
    writer.add_token_list(["<s>", "é", ""])
    writer.add_tensor("plain", np.arange(12, dtype=np.float32).reshape(3, 4))
    writer.add_tensor("blocks", gguf.quants.quantize(np.ones((2, 64), np.float32), gguf.GGMLQuantizationType.Q8_0),
                      raw_dtype=gguf.GGMLQuantizationType.Q8_0)  # fmt: skip
    for step in (writer.write_header_to_file, writer.write_kv_data_to_file, writer.write_tensors_to_file, writer.close):
        step()
    return path


def test_a_file_of_the_gguf_package_reads_with_values_shapes_and_places(tmp_path: Path) -> None:
    path = valid_file(tmp_path / "x.gguf")
    header = read_gguf_header(path)
    assert header.version == 3 and header.alignment == 32
    assert header.metadata["llama.block_count"] == 2
    assert (header.metadata["x.f64"], header.metadata["x.i8"], header.metadata["x.bool"]) == (0.5, -3, True)
    assert header.metadata["x.numbers"] == [1, 2, 3] and header.metadata["x.bools"] == [True, False]
    assert header.metadata["tokenizer.ggml.tokens"] == ["<s>", "é", ""]
    plain, blocks = header.tensors["plain"], header.tensors["blocks"]
    assert (plain.type_name, plain.shape, plain.num_bytes) == ("F32", (3, 4), 48)
    assert (blocks.type_name, blocks.shape, blocks.num_bytes) == ("Q8_0", (2, 64), 2 * 2 * 34)
    data = path.read_bytes()[plain.offset_bytes : plain.offset_bytes + plain.num_bytes]
    assert np.array_equal(np.frombuffer(data, np.float32), np.arange(12))


def test_the_table_of_block_types_is_that_of_the_gguf_package() -> None:
    theirs = {int(kind): (kind.name, *sizes) for kind, sizes in gguf.GGML_QUANT_SIZES.items()}
    assert {kind: theirs[kind] for kind in BLOCK_TYPES if kind in theirs} == {
        kind: tuple(block) for kind, block in BLOCK_TYPES.items() if kind in theirs
    }
    assert {kind for kind in theirs if kind <= max(BLOCK_TYPES)} <= BLOCK_TYPES.keys()


def test_version_2_an_own_alignment_and_padding_between_tensors_are_read(tmp_path: Path) -> None:
    header = b"GGUF" + struct.pack("<IQQ", 2, 2, 1) + pair("general.alignment", U32, struct.pack("<I", 8))
    header += tensor("b", (2, 3), offset=64) + tensor("a", (1,), offset=0)
    header += bytes(-len(header) % 8)
    found = read_gguf_header(write(tmp_path / "x.gguf", header + bytes(64 + 24 + 5)))
    assert found.version == 2 and found.alignment == 8
    assert found.tensors["b"] == GgufTensor("b", "F32", (3, 2), len(header) + 64, 24)


def test_nested_arrays_are_read_to_a_depth_and_refused_beyond_it(tmp_path: Path) -> None:
    def nested(depth: int) -> bytes:
        return array(U8, 1, b"\7") if depth == 1 else array(ARRAY, 1, nested(depth - 1))

    found = read_gguf_header(write(tmp_path / "x.gguf", file_of((pair("k", ARRAY, nested(3)),))))
    assert found.metadata["k"] == [[[7]]]
    with pytest.raises(CheckpointError, match="deep"):
        read_gguf_header(write(tmp_path / "y.gguf", file_of((pair("k", ARRAY, nested(500)),))))


def test_half_a_million_tokens_are_read_in_about_a_second(tmp_path: Path) -> None:
    tokens = b"".join(text(f"tok{index}") for index in range(500_000))
    scores = np.arange(500_000, dtype="<f4").tobytes()
    path = write(tmp_path / "x.gguf", file_of((
        pair("tokens", ARRAY, array(STRING, 500_000, tokens)), pair("scores", ARRAY, array(F32, 500_000, scores)),
    )))  # fmt: skip
    started = time.monotonic()
    header = read_gguf_header(path)
    assert time.monotonic() - started < 5  # 0.3 s on a quiet core
    assert header.metadata["tokens"][-1] == "tok499999" and header.metadata["scores"][-1] == 499_999.0


def test_the_real_files_of_the_fixtures_are_read(shared: Path) -> None:
    stories = read_gguf_header(shared / "fixtures/checkpoints/stories260K.gguf")
    assert len(stories.tensors) == 48 and stories.tensors["blk.4.ffn_gate.weight"].shape == (172, 64)
    vocabulary = read_gguf_header(shared / "fixtures/tokenizers/gguf-vocab/ggml-vocab-gpt-2.gguf")
    assert len(vocabulary.metadata["tokenizer.ggml.tokens"]) == 50257 and not vocabulary.tensors


def count_header(tensors: int, pairs: int) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, pairs) + bytes(64)


HUGE = (2**31, 2**63, 2**64 - 1)
HOSTILE = {
    "empty": (b"", "not a GGUF file"),
    "another kind": (b"PK\x03\x04" + bytes(64), "not a GGUF file"),
    "only the magic": (b"GGUF", "end of the file"),
    **{f"{count} tensors": (count_header(count, 0), "tensors can't lie") for count in HUGE},
    **{f"{count} pairs": (count_header(0, count), "pairs can't lie") for count in HUGE},
    **{f"a key of {size} bytes": (file_of((struct.pack("<Q", size) + bytes(64),)), "end of the file") for size in HUGE},
    **{f"a value of {size} bytes": (file_of((pair("k", STRING, struct.pack("<Q", size)),)), "end of") for size in HUGE},
    **{f"{size} strings": (file_of((pair("k", ARRAY, array(STRING, size)),)), "strings can't lie") for size in HUGE},
    **{f"{size} arrays": (file_of((pair("k", ARRAY, array(ARRAY, size)),)), "arrays can't lie") for size in HUGE},
    **{f"{size} doubles": (file_of((pair("k", ARRAY, array(F64, size)),)), "'k'.*end of the file") for size in HUGE},
    **{f"{size} booleans": (file_of((pair("k", ARRAY, array(BOOL, size)),)), "'k'.*end of the file") for size in HUGE},
    "an unknown value type": (file_of((pair("k", 13, bytes(8)),)), "unknown metadata type 13"),
    "an unknown item type": (file_of((pair("k", ARRAY, array(99, 0)),)), "unknown metadata type 99"),
    "a boolean of 2": (file_of((pair("k", BOOL, b"\2"),)), "neither 0 nor 1"),
    "text that is not UTF-8": (file_of((pair("k", STRING, text(b"\xff")),)), "not UTF-8"),
    "a key that is not UTF-8": (file_of((text(b"\xff") + struct.pack("<IB", U8, 0), bytes(9))), "not UTF-8"),
    "a key of 70,000 bytes": (file_of((pair("k" * 70_000, U8, b"\0"),)), "a name of 70000 characters"),
    "a key twice": (file_of((pair("k", U8, b"\0"), pair("k", U8, b"\1"))), "'k' stands twice"),
    "alignment 0": (file_of((pair("general.alignment", U32, bytes(4)),)), "alignment"),
    "alignment 24": (file_of((pair("general.alignment", U32, struct.pack("<I", 24)),)), "alignment"),
    "a negative alignment": (file_of((pair("general.alignment", I32, struct.pack("<i", -8)),)), "alignment"),
    "a text for alignment": (file_of((pair("general.alignment", STRING, text("32")),)), "alignment"),
    "an alignment beyond the file": (
        file_of((pair("general.alignment", U32, struct.pack("<I", 2**31)),), (tensor(),), 64), "beyond the end"),
    "no dimensions": (file_of((), (tensor(dims=()),), 64), "0 dimensions"),
    "five dimensions": (file_of((), (tensor(dims=(1, 1, 1, 1, 1)),), 64), "5 dimensions"),
    "2^32 - 1 dimensions": (file_of((), (tensor(num_dims=2**32 - 1),), 64), "4294967295 dimensions"),
    "a dimension of 0": (file_of((), (tensor(dims=(4, 0)),), 64), "dimensions"),
    "dimensions that wrap to 0": (file_of((), (tensor(dims=(2**32, 2**32)),), 64), "dimensions"),
    "dimensions that wrap to 4": (file_of((), (tensor(dims=(2**62 + 1, 4)),), 64), "dimensions"),
    "a huge dimension": (file_of((), (tensor(dims=(2**64 - 1,)),), 64), "dimensions"),
    "half a block": (file_of((), (tensor(dims=(16, 2), kind=2),), 64), "that Q4_0 can't have"),
    "a retired type": (file_of((), (tensor(kind=4),), 64), "unknown or retired type 4"),
    "an unknown type": (file_of((), (tensor(kind=2**32 - 1),), 64), "unknown or retired type"),
    "an offset off the alignment": (file_of((), (tensor(offset=4),), 64), "multiple of the alignment"),
    "an offset beyond the file": (file_of((), (tensor(offset=2**63),), 64), "beyond the end"),
    "an extent beyond the file": (file_of((), (tensor(dims=(2**20, 2**10)),), 64), "beyond the end"),
    "one byte short": (file_of((), (tensor(),), 15), "beyond the end"),
    "an overlap": (file_of((), (tensor("a", (16,)), tensor("b", (1,), offset=32)), 64), "'b' overlaps 'a'"),
    "the same bytes twice": (file_of((), (tensor("a"), tensor("b")), 64), "overlaps"),
    "a tensor twice": (file_of((), (tensor("a"), tensor("a", offset=32)), 64), "stands twice"),
}  # fmt: skip


@pytest.mark.parametrize(("content", "cause"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_header_gets_one_line_that_names_the_cause(tmp_path: Path, content: bytes, cause: str) -> None:
    with pytest.raises(CheckpointError, match=cause) as caught:
        read_gguf_header(write(tmp_path / "bad.gguf", content))
    line = str(caught.value)
    assert "\n" not in line and len(line) < 500 and "bad.gguf" in line and caught.value.fix


UNSUPPORTED = {
    "version 1": (file_of(version=1), "version 1"),
    "version 4": (file_of(version=4), "version 4"),
    "big endian": (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
    "one part of several": (file_of((pair("split.count", U16, struct.pack("<H", 3)),)), "split.*--merge"),
}


@pytest.mark.parametrize(("content", "cause"), UNSUPPORTED.values(), ids=UNSUPPORTED)
def test_a_kind_of_gguf_that_is_not_read_is_named(tmp_path: Path, content: bytes, cause: str) -> None:
    with pytest.raises(UnsupportedError, match=cause):
        read_gguf_header(write(tmp_path / "x.gguf", content))


def test_a_header_larger_than_the_limit_is_refused_within_memory_and_time(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    for kind, items in ((U8, 2**30), (STRING, 2**27), (ARRAY, 2**26)):
        with path.open("wb") as file:
            file.write(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + text("k") + struct.pack("<IIQ", ARRAY, kind, items))
            file.truncate(2**31)  # a sparse file: every array has its bytes
        tracemalloc.start()
        started = time.monotonic()
        with pytest.raises(CheckpointError, match=r"can't lie|limit of a header"):
            read_gguf_header(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2**20 and time.monotonic() - started < 2


def test_every_truncation_of_a_valid_file_is_refused(tmp_path: Path) -> None:
    whole = valid_file(tmp_path / "x.gguf").read_bytes()
    last = read_gguf_header(tmp_path / "x.gguf").tensors["blocks"]
    for size in range(last.offset_bytes + last.num_bytes):
        with pytest.raises(CheckpointError):
            read_gguf_header(write(tmp_path / "cut.gguf", whole[:size]))


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.gguf", Path("/dev/zero")):
        with pytest.raises(CheckpointError, match="not a file"):
            read_gguf_header(path)


@pytest.fixture(scope="module")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return valid_file(tmp_path_factory.mktemp("fuzz") / "small.gguf")


@settings(max_examples=500)
@given(seed=st.integers(0, 2**32), num_flips=st.integers(1, 6), cut=st.floats(0.0, 1.0), cuts=st.booleans())
def test_flipped_and_missing_bytes_parse_or_raise_our_own_error(
    small_file: Path, seed: int, num_flips: int, cut: float, cuts: bool
) -> None:
    rng = random.Random(seed)
    data = bytearray(small_file.read_bytes())
    for _ in range(num_flips):
        data[rng.randrange(len(data))] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    damaged = write(small_file.with_name("damaged.gguf"), bytes(data[: int(cut * len(data))] if cuts else data))
    try:
        header = read_gguf_header(damaged)
    except FarthingError as error:
        assert "\n" not in str(error)
    else:
        assert all(found.offset_bytes + found.num_bytes <= len(data) for found in header.tensors.values())
