"""Who may wait: users in one line, idle work in another."""

import pytest

from farthing.server.admission import Admission, Ticket
from farthing.server.errors import ApiError


def idle(admission: Admission) -> Ticket:
    ticket = admission.enter()
    ticket.stand_aside()
    return ticket


def refusal(admission: Admission) -> ApiError:
    with pytest.raises(ApiError) as raised:
        admission.enter()
    return raised.value


def test_idle_work_takes_no_user_s_place_nor_a_user_that_of_idle_work() -> None:
    admission = Admission(max_requests=2, max_tokens=100)
    waiting = [idle(admission), idle(admission)]
    with pytest.raises(ApiError, match="2 idle requests wait already"):
        idle(admission)
    users = [admission.enter(), admission.enter()]
    assert refusal(admission).status == 429
    assert (admission.num_queued, admission.num_active, admission.num_refused) == (4, 4, 2)
    users[0].begin()
    users.append(admission.enter())
    waiting[0].begin()
    for ticket in (*waiting, *users):
        ticket.end()
        ticket.end()
    assert (admission.num_queued, admission.num_queued_tokens, admission.num_active) == (0, 0, 0)


def test_tokens_and_waits_of_idle_work_are_counted_apart() -> None:
    admission = Admission(max_requests=1, max_tokens=100)
    night = idle(admission)
    night.carry(90)
    night.begin(waited_seconds=300.0)
    night = idle(admission)
    night.carry(90)
    user = admission.enter()
    user.carry(90)
    assert admission.num_queued_tokens == 180
    assert refusal(admission).headers["retry-after"] == "1", "300 s of an idle request are nothing a user waits for"
    user.begin()
    night.end()
    assert admission.num_queued_tokens == 0


def test_a_prompt_too_long_for_the_line_gives_its_place_back() -> None:
    admission = Admission(max_requests=4, max_tokens=100)
    admission.enter().carry(60)
    late = admission.enter()
    with pytest.raises(ApiError, match="prompts of 60 tokens wait already"):
        late.carry(50)
    assert (admission.num_queued, admission.num_queued_tokens, admission.num_active) == (1, 60, 1)
