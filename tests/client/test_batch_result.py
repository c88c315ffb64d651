"""Lines of the result: the same for the same answer, whenever and by whichever run it was given."""

import json
from typing import Any

from farthing.client.batch_file import Row, RowError
from farthing.client.batch_result import Facts, answered, refused

ROW = Row(3, 4, "batch_req_1", "mine", "/v1/chat/completions", {"model": "m"})


def line(row: Row, body: dict[str, Any], status: int = 200) -> dict[str, Any]:
    return json.loads(answered(row, status, json.dumps(body).encode(), created=1700000000).line)


def chat(mark: str, cached: int) -> dict[str, Any]:
    call = {"id": f"call_{mark}", "type": "function", "function": {"name": "f", "arguments": '{"id": "call_x"}'}}
    return {
        "id": f"chatcmpl-{mark}", "created": hash(mark) % 10**9, "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "id", "tool_calls": [call, call]}}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": cached},
                  "farthing": {"seconds": 0.5, "dollars": 0.001, "share_of_limit": 0.25, "cached_tokens": cached}},
    }  # fmt: skip


def test_what_differs_from_run_to_run_is_replaced():
    first, second = line(ROW, chat("a", 0)), line(ROW, chat("b", 8))
    assert first == second
    body = first["response"]["body"]
    ids = {body["id"], *(call["id"] for call in body["choices"][0]["message"]["tool_calls"])}
    assert len(ids) == 3 and body["id"].startswith("chatcmpl-") and all("_" in i or "-" in i for i in ids)
    assert body["created"] == 1700000000
    assert body["usage"] == {"prompt_tokens": 9, "completion_tokens": 5}
    assert body["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == '{"id": "call_x"}'


def test_the_row_has_the_form_of_openai():
    row = line(ROW, chat("a", 0))
    assert list(row) == ["id", "custom_id", "response", "error"]
    assert (row["id"], row["custom_id"], row["error"]) == ("batch_req_1", "mine", None)
    assert row["response"]["status_code"] == 200 and row["response"]["request_id"].startswith("req_")


def test_ids_of_different_rows_differ():
    other = Row(4, 5, "batch_req_2", "other", ROW.url, {})
    assert line(ROW, chat("a", 0))["response"]["body"]["id"] != line(other, chat("a", 0))["response"]["body"]["id"]


def test_items_of_a_response_and_blocks_of_a_message_get_ids_of_the_same_kind():
    items = [{"type": "message", "id": "msg_1"}, {"type": "function_call", "id": "fc_2", "call_id": "call_3"}]
    body = line(
        Row(0, 1, "r", "c", "/v1/responses", {}),
        {"id": "resp_1", "created_at": 5, "completed_at": None, "output": items},
    )["response"]["body"]
    assert [body["output"][0]["id"][:4], body["output"][1]["id"][:3], body["output"][1]["call_id"][:5]] == [
        "msg_",
        "fc_",
        "call_",
    ]
    assert (body["created_at"], body["completed_at"]) == (1700000000, None)
    used = {"type": "tool_use", "id": "toolu_9", "name": "f", "input": {"id": "toolu_9"}}
    message = line(
        Row(0, 1, "r", "c", "/v1/messages", {}),
        {
            "id": "msg_1",
            "content": [used],
            "usage": {"input_tokens": 2, "cache_read_input_tokens": 16, "output_tokens": 3},
        },
    )["response"]["body"]
    assert message["content"][0]["id"] != "toolu_9" and message["content"][0]["input"] == {"id": "toolu_9"}
    assert message["usage"] == {"input_tokens": 18, "cache_read_input_tokens": 0, "output_tokens": 3}


def test_figures_are_summed_up_from_what_the_answer_says():
    facts = answered(ROW, 200, json.dumps(chat("a", 8)).encode(), created=0).facts
    assert facts == Facts(False, 9, 8, 5, 0.5, 0.001, 0.25)
    assert Facts.from_json(facts.to_json()) == facts


def test_an_answer_without_figures_or_with_strange_ones_is_taken():
    for usage in (
        None,
        {},
        {"prompt_tokens": -1, "farthing": None},
        {"prompt_tokens": "9", "farthing": {"seconds": "1"}},
    ):
        facts = answered(ROW, 200, json.dumps({"usage": usage}).encode(), created=0).facts
        assert facts == Facts()


def test_a_refusal_keeps_status_and_body_and_says_the_error():
    body = {"error": {"message": "too long", "type": "invalid_request_error", "code": "context_length_exceeded"}}
    row = line(ROW, body, 400)
    assert (row["response"]["status_code"], row["response"]["body"]) == (400, body)
    assert row["error"] == {"code": "context_length_exceeded", "message": "too long"}
    anthropic = line(ROW, {"type": "error", "error": {"type": "not_found_error", "message": "no"}}, 404)
    assert anthropic["error"] == {"code": "not_found_error", "message": "no"}


def test_what_is_no_json_is_an_error_with_what_came():
    row = json.loads(answered(ROW, 200, b"<html>", created=0).line)
    assert row["error"]["code"] == "invalid_answer" and row["response"]["body"] == "<html>"
    assert json.loads(answered(ROW, 502, b"\xff", created=0).line)["error"]["code"] == "http_502"


def test_a_row_that_was_never_asked_has_no_response():
    result = refused(ROW, RowError("invalid_json", "line 4: no"))
    row = json.loads(result.line)
    assert row["response"] is None and row["error"] == {"code": "invalid_json", "message": "line 4: no"}
    assert result.facts.failed
