"""Hostile, damaged and valid safetensors headers (attack class S32, and S17: pickles under another name)."""

import json
import pickle
import random
import struct
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from farthing.errors import CheckpointError, FarthingError
from farthing.models.safetensors_header import TensorEntry, read_safetensors_header

F32_PAIR = '{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'


def write(path: Path, header: str | bytes, data: bytes = b"", length: int | None = None) -> Path:
    text = header.encode() if isinstance(header, str) else header
    path.write_bytes(struct.pack("<Q", len(text) if length is None else length) + text + data)
    return path


def valid_file(path: Path) -> Path:
    rng = np.random.default_rng(0)
    tensors = {"a.weight": rng.random((3, 4), np.float32), "b": np.arange(5, dtype=np.int64), "c": np.float16([1.5])}
    save_file(tensors, path, metadata={"format": "pt", "braces": '{"nested": [1, {}]}'})
    return path


def test_a_file_of_the_safetensors_library_reads_with_names_shapes_and_places(tmp_path: Path) -> None:
    path = valid_file(tmp_path / "model.safetensors")
    entries = read_safetensors_header(path)
    assert {name: (entry.dtype, entry.shape) for name, entry in entries.items()} == {
        "a.weight": ("F32", (3, 4)), "b": ("I64", (5,)), "c": ("F16", (1,)),
    }  # fmt: skip
    entry = entries["b"]
    data = path.read_bytes()[entry.offset_bytes : entry.offset_bytes + entry.num_bytes]
    assert np.array_equal(np.frombuffer(data, np.int64), np.arange(5))


def test_whitespace_key_order_escapes_and_padding_are_read_as_json(tmp_path: Path) -> None:
    header = '{ "\\u0061\\"}" : { "data_offsets" : [0, 8],\n "shape":[2, 1],"dtype":"F32" } , "__metadata__" : { } }   '
    entries = read_safetensors_header(write(tmp_path / "x.safetensors", header, bytes(8)))
    assert entries == {'a"}': TensorEntry('a"}', "F32", (2, 1), 8 + len(header), 8)}


def test_a_file_without_tensors_and_tensors_without_elements_are_read(tmp_path: Path) -> None:
    assert read_safetensors_header(write(tmp_path / "none.safetensors", "{}  ")) == {}
    empty = (
        '{"e":{"dtype":"BF16","shape":[0,7],"data_offsets":[0,0]},"s":{"dtype":"F64","shape":[],"data_offsets":[0,8]}}'
    )
    entries = read_safetensors_header(write(tmp_path / "empty.safetensors", empty, bytes(8)))
    assert (entries["e"].num_bytes, entries["s"].num_bytes) == (0, 8)


def entry(dtype: object = "F32", shape: object = (2,), offsets: object = (0, 8)) -> str:
    return json.dumps({"dtype": dtype, "shape": shape, "data_offsets": offsets})


def tensors(*entries: str) -> str:
    return "{" + ",".join(f'"{name}":{value}' for name, value in zip("abcdef", entries, strict=False)) + "}"


HOSTILE = {
    "not an object": ("[]", "not a JSON object"),
    "an empty header": ("", "not a JSON object"),
    "unclosed": ('{"a":' + F32_PAIR, "not JSON"),
    "a trailing comma": ('{"a":' + F32_PAIR + ",}", "not JSON"),
    "text behind the end": (tensors(F32_PAIR) + "x", "goes on after its end"),
    "not UTF-8": (b'{"\xff":' + F32_PAIR.encode() + b"}", "not UTF-8"),
    "a duplicate tensor": ('{"a":' + F32_PAIR + ',"a":' + F32_PAIR + "}", "stands twice"),
    "a duplicate by an escape": ('{"a":' + F32_PAIR + ',"\\u0061":' + F32_PAIR + "}", "stands twice"),
    "two metadata": ('{"__metadata__":{},"__metadata__":{},"a":' + F32_PAIR + "}", "stands twice"),
    "metadata that are no strings": ('{"__metadata__":{"n":1},"a":' + F32_PAIR + "}", "__metadata__.*needs dtype"),
    "metadata that nest": ('{"__metadata__":{"n":{}},"a":' + F32_PAIR + "}", "not JSON"),
    "a key twice in an entry": (tensors('{"dtype":"F32","dtype":"F64","shape":[2],"data_offsets":[0,8]}'), "once each"),
    "a missing key": (tensors('{"dtype":"F32","shape":[2]}'), "needs dtype"),
    "an unknown key": (tensors('{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1}'), "nothing else"),
    "an entry that is no object": (tensors("[1,2,3]"), "not JSON"),
    "an unknown dtype": (tensors(entry(dtype="F33")), "unknown dtype 'F33'"),
    "a dtype below a byte": (tensors(entry(dtype="F4")), "unknown dtype"),
    "a dtype that is no text": (tensors(entry(dtype=["F32"])), "unknown dtype"),
    "a negative dimension": (tensors(entry(shape=[-2])), "whole numbers"),
    "two negative dimensions": (tensors(entry(shape=[-1, -2])), "whole numbers"),
    "a boolean dimension": (tensors(entry(shape=[2, True])), "whole numbers"),
    "a fractional dimension": (tensors(entry(shape=[2.0])), "whole numbers"),
    "a text for a dimension": (tensors(entry(shape=["2"])), "whole numbers"),
    "a shape that is no list": (tensors(entry(shape=2)), "whole numbers"),
    "NaN as a dimension": (tensors(entry(shape=[float("nan")])), "whole numbers"),
    "a product beyond 64 bits": (tensors(entry(shape=[2**32, 2**32], offsets=[0, 2**66])), "impossible shape"),
    "a product that wraps to 8 bytes": (tensors(entry(shape=[2**61 + 1, 8])), "impossible shape"),
    "a product of 0 with an overflow": (tensors(entry(shape=[2**40, 2**40, 0], offsets=[0, 0])), "impossible shape"),
    "a number of thousands of digits": (tensors(entry(shape=[int("9" * 1900)])), "impossible shape"),
    "negative offsets": (tensors(entry(offsets=[-8, 0])), "whole numbers"),
    "boolean offsets": (tensors(entry(shape=[0], offsets=[False, False])), "whole numbers"),
    "offsets in the wrong order": (tensors(entry(offsets=[8, 0])), "do not make"),
    "three offsets": (tensors(entry(offsets=[0, 8, 8])), "whole numbers"),
    "shape larger than offsets": (tensors(entry(shape=[3])), "do not make"),
    "shape smaller than offsets": (tensors(entry(shape=[1])), "do not make"),
    "an overlap": (tensors(entry(), entry(shape=[1], offsets=[4, 8])), "overlaps"),
    "the same bytes twice": (tensors(entry(), entry()), "overlaps"),
    "a hole at the beginning": (tensors(entry(shape=[1], offsets=[4, 8])), "leaves a hole"),
    "a hole between": (tensors(entry(shape=[1], offsets=[0, 4]), entry(shape=[0], offsets=[8, 8])), "leaves a hole"),
    "a tensor beyond the file": (tensors(entry(shape=[2**40], offsets=[0, 2**42])), "the file at byte"),
    "trailing bytes": (tensors(entry(shape=[1], offsets=[0, 4])), "the file at byte"),
    "no tensors but data": ("{}", "the file at byte"),
}  # fmt: skip


@pytest.mark.parametrize(("header", "cause"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_header_gets_one_line_that_names_the_cause(tmp_path: Path, header: str | bytes, cause: str) -> None:
    path = write(tmp_path / "bad.safetensors", header, bytes(8))
    with pytest.raises(CheckpointError, match=cause) as caught:
        read_safetensors_header(path)
    line = str(caught.value)
    assert "\n" not in line and len(line) < 500 and "bad.safetensors" in line and caught.value.fix


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 100_000_001, 1000, 3], ids=str)
def test_a_length_that_the_file_or_the_limit_can_not_hold_is_refused(tmp_path: Path, length: int) -> None:
    with pytest.raises(CheckpointError):
        read_safetensors_header(write(tmp_path / "x.safetensors", tensors(F32_PAIR), bytes(8), length))


def test_every_truncation_of_a_valid_file_is_refused(tmp_path: Path) -> None:
    whole = valid_file(tmp_path / "x.safetensors").read_bytes()
    cut = tmp_path / "cut.safetensors"
    for size in range(len(whole)):
        cut.write_bytes(whole[:size])
        with pytest.raises(CheckpointError):
            read_safetensors_header(cut)


def test_control_characters_of_a_name_do_not_reach_the_terminal(tmp_path: Path) -> None:
    header = '{"\\u001b[2J\\n\\ud800":' + entry(dtype="Q") + "}"
    with pytest.raises(CheckpointError) as caught:
        read_safetensors_header(write(tmp_path / "x.safetensors", header, bytes(8)))
    assert str(caught.value).isprintable() and str(caught.value).encode()


def bombs() -> dict[str, bytes]:
    return {
        "lists in lists": b'{"a":' + b"[" * 20_000_000,
        "objects in objects": b'{"a":' * 4_000_000,
        "a list of lists": b'{"a":{"shape":[' + b"[]," * 6_000_000,
        "numbers": b'{"a":{"dtype":"F32","data_offsets":[0,0],"shape":[' + b"0," * 10_000_000 + b"0]}}",
        "an endless string": b'{"' + b"a" * 20_000_000,
        "backslashes": b'{"' + b"\\" * 20_000_000,
        "metadata": b'{"__metadata__":{' + b'"a":"b",' * 2_500_000 + b"1}}",
        "spaces": b"{" + b" " * 20_000_000,
        "deep inside an entry": b'{"a":{"shape":' + b"[" * 1900 + b"}}",
    }


@pytest.mark.parametrize("kind", bombs())
def test_a_json_bomb_costs_no_more_memory_than_a_few_copies_of_its_text(tmp_path: Path, kind: str) -> None:
    text = bombs()[kind]
    path = write(tmp_path / "bomb.safetensors", text)
    tracemalloc.start()
    started = time.monotonic()
    try:
        with pytest.raises(CheckpointError):
            read_safetensors_header(path)
        assert tracemalloc.get_traced_memory()[1] < 5 * len(text) + 2**20
    finally:
        tracemalloc.stop()
    assert time.monotonic() - started < 5


class _Runs:
    """Unpickled, it would create a file."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[object, ...]:
        return (open, (str(self._path), "w"))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_named_model_safetensors_is_refused_and_never_run(tmp_path: Path, protocol: int) -> None:
    witness, path = tmp_path / "was-run", tmp_path / "model.safetensors"
    path.write_bytes(pickle.dumps({"weights": [_Runs(witness)] * 3, "padding": "x" * 4096}, protocol))
    with pytest.raises(CheckpointError, match="convert"):
        read_safetensors_header(path)
    assert not witness.exists()


def test_other_files_under_this_name_are_named_for_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
    with pytest.raises(CheckpointError, match=r"zip archive.*convert the checkpoint to safetensors"):
        read_safetensors_header(path)
    path.write_bytes(b"GGUF\x03\x00\x00\x00" + bytes(100))
    with pytest.raises(CheckpointError, match="a GGUF file"):
        read_safetensors_header(path)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(CheckpointError, match="git lfs pull"):
        read_safetensors_header(path)


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.safetensors", Path("/dev/zero")):
        with pytest.raises(CheckpointError, match="not a file"):
            read_safetensors_header(path)


@pytest.fixture(scope="module")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return valid_file(tmp_path_factory.mktemp("fuzz") / "small.safetensors")


@settings(max_examples=400)
@given(seed=st.integers(0, 2**32), num_flips=st.integers(1, 6), cut=st.floats(0.0, 1.0), cuts=st.booleans())
def test_flipped_and_missing_bytes_parse_or_raise_our_own_error(
    small_file: Path, seed: int, num_flips: int, cut: float, cuts: bool
) -> None:
    rng = random.Random(seed)
    data = bytearray(small_file.read_bytes())
    for _ in range(num_flips):
        data[rng.randrange(len(data))] = rng.randrange(256)
    damaged = small_file.with_name("damaged.safetensors")
    damaged.write_bytes(data[: int(cut * len(data))] if cuts else data)
    try:
        entries = read_safetensors_header(damaged)
    except FarthingError as error:
        assert "\n" not in str(error)
    else:
        assert sum(entry.num_bytes for entry in entries.values()) <= len(data)
