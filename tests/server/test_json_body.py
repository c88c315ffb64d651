"""The body as JSON: strict, and bounded before it is built."""

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing.errors import RequestError
from farthing.server.json_body import check_depth, parse_json

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(st.text(), json_values, max_size=5), st.booleans())
def test_an_object_comes_out_as_it_went_in(value: dict[str, object], ascii_only: bool):
    assert parse_json(json.dumps(value, ensure_ascii=ascii_only).encode()) == value


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"text"',
        b"null",
        b"{}{}",
        b"{'a': 1}",
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b'{"a": 1e999}',
        b'{"a": "\\ud83d"}',
        b'{"a": "\xff"}',
        b'{"a": ' + b"9" * 5000 + b"}",
        "{}".encode("utf-16"),
        b"\xef\xbb\xbf{}",
    ],
)
def test_what_is_no_json_object_is_a_request_error(body: bytes):
    with pytest.raises(RequestError):
        parse_json(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":' * 100_000,
        b'{"a":' * 3000 + b"1" + b"}" * 3000,
        b'{"a":' * 66 + b"1" + b"}" * 66,
        b'{"a":' + b"[" * 10**6,
        b'{"a":' + b"[" * 500 + b"]" * 500 + b"}",
    ],
)
def test_a_deep_body_is_a_request_error(body: bytes):
    with pytest.raises(RequestError):
        parse_json(body)


def test_the_depth_that_is_allowed_is_allowed():
    value: object = 1
    for _ in range(64):
        value = [value]
    check_depth(value)
    with pytest.raises(RequestError, match="64 levels"):
        check_depth([value])


@pytest.mark.parametrize(
    "body",
    [
        b'{"a":[' + b"[]," * 5_000_000 + b"1]}",
        b'{"a":[' + b"{}," * 5_000_000 + b"1]}",
        b'{"a":[' + b"1," * 8_000_000 + b"1]}",
        b'{"a":[' + b'"x",' * 4_000_000 + b"1]}",
        b'{"a":[' + b'"",' * 4_000_000 + b"1]}",
        b"{" + b",".join(b'"%d":1' % number for number in range(500_000)) + b"}",
        b'{"\\\\":[' + b"[]," * 5_000_000 + b"1]}",
    ],
)
def test_a_body_that_would_become_much_larger_is_refused_before_it_is_built(body: bytes):
    tracemalloc.start()
    with pytest.raises(RequestError, match="more than"):
        parse_json(body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 * 2**20


def test_a_long_prompt_of_code_is_no_such_body():
    prompt = 'def f(x): return {"a": [1, 2], "b\\\\": x}  # {[:,\n' * 100_000
    assert parse_json(json.dumps({"prompt": prompt}).encode()) == {"prompt": prompt}


def test_a_prompt_of_a_million_token_ids_is_no_such_body():
    ids = list(range(10**6))
    assert parse_json(json.dumps({"prompt": ids}).encode()) == {"prompt": ids}
