"""What every dialect asks for, done once: a conversation or a prompt made into engine requests, admitted and run.

Tokenising, templates and the checking of grammars happen on threads, so that the streams of others flow on. Knows no
route and no API's shape; the dialects (chat/, completions/, responses/, messages/) translate to and from it.
"""

import asyncio
import dataclasses
import itertools
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from farthing.engine.chats.conversation import normalise, template_tools
from farthing.engine.grammars.grammar_check import GrammarChecker
from farthing.engine.model_text import ModelText
from farthing.engine.process.engine_client import EngineClient
from farthing.engine.request import Request, check_request
from farthing.engine.tool_calls.answer_parser import REASONING_MARKERS, AnswerParser, reasoning_for
from farthing.engine.tool_calls.formats import choose_format
from farthing.engine.tool_calls.tool_grammar import Surroundings, after_thought, calls_or_answer
from farthing.engine.tool_calls.tools import Tool, ToolChoice
from farthing.errors import ChatTemplateError, RequestError
from farthing.sampling_params import Grammar, SamplingParams
from farthing.server.admission import Admission, Ticket
from farthing.server.answer import Answer, Call
from farthing.server.errors import ApiError
from farthing.server.latencies import AnswerTimes

MAX_CHOICES = 128
MAX_PRIORITY = 1000
_NUM_THREADS = 2
_NUM_GRAMMAR_THREADS = 16  # they mostly wait for the process that tries grammars
_MAX_THOUGHTS_A_TOKEN = 64  # characters of the context; most templates leave all but the last thoughts out
_TOOLS_SECONDS = 0.5  # for the schemas of all tools of a request; one takes a few milliseconds
# What a request may set in a chat template; everything else stays the model's own.
TEMPLATE_OPTIONS = frozenset(("enable_thinking", "thinking", "reasoning_effort"))

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages in OpenAI's shape, and what the model may call. `options` are variables of the chat template."""

    messages: Sequence[Mapping[str, Any]]
    tools: Sequence[Tool] = ()
    choice: ToolChoice = field(default_factory=ToolChoice)
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: the salt that keeps prefix caches of different keys apart, and how urgent it is."""

    key_id: str = ""
    priority: int = 0


class Service:
    """`names`: what the model is called by requests; the first is the one that answers bear."""

    def __init__(
        self, engine: EngineClient, text: ModelText, *, context: int, names: Sequence[str], admission: Admission
    ) -> None:
        self.engine, self.text, self.context, self.admission = engine, text, context, admission
        self.names = tuple(names)
        self._control_tokens = {} if text.tokenizer is None else dict(text.tokenizer.special_tokens)
        self._template_source = (text.tokenizer and text.tokenizer.chat_template) or ""
        self.checker = GrammarChecker(self._control_tokens)
        self._format = choose_format(self._template_source)
        self._threads = ThreadPoolExecutor(_NUM_THREADS, thread_name_prefix="farthing-text")
        # Of their own, or one slow grammar after the other would keep everybody's text from being tokenised.
        self._grammar_threads = ThreadPoolExecutor(_NUM_GRAMMAR_THREADS, thread_name_prefix="farthing-grammars")
        self._numbers = itertools.count()

    def require_model(self, name: str | None) -> str:
        """The name under which the model answers. ApiError 404 for one that is not served."""
        if name is None:
            return self.names[0]
        if name not in self.names:
            raise ApiError(
                404,
                f"the model {name!r:.200} is not served here",
                fix=f"use {' or '.join(self.names)}",
                code="model_not_found",
                param="model",
            )
        return name

    async def chat_call(self, conversation: Conversation, params: SamplingParams, caller: Caller) -> Call:
        """RequestError or ChatTemplateError if it can't be served."""
        threads = self._grammar_threads if params.grammar or conversation.tools else self._threads
        return await self._on_thread(lambda: self._chat_call(conversation, params, caller), threads)

    async def completion_call(
        self, prompts: Sequence[str | Sequence[int]], params: SamplingParams, caller: Caller
    ) -> Call:
        """One request for each prompt, text or token ids."""
        threads = self._grammar_threads if params.grammar else self._threads
        return await self._on_thread(lambda: self._completion_call(prompts, params, caller), threads)

    async def chat_tokens(self, conversation: Conversation) -> list[int]:
        """Token ids of the prompt that the conversation makes."""

        def encode() -> list[int]:
            prompt = self._render(conversation)
            self.text.require_room(self.context, prompt)
            return list(self.text.encode_rendered(prompt))

        return await self._on_thread(encode)

    async def tokenize(self, text: str, *, add_special: bool) -> list[int]:
        def encode() -> list[int]:
            tokenizer = self.text.tokenizer
            self.text.require_room(self.context, text)
            return (
                list(self.text.encode(text)) if tokenizer is None else tokenizer.encode(text, add_special=add_special)
            )

        return await self._on_thread(encode)

    def run(
        self, call: Call, ticket: Ticket, times: AnswerTimes | None, dollars: Callable[[float], float | None]
    ) -> Answer:
        """Queue the call. `times` None: nobody waits for this answer, so its moments are not counted. ApiError 429 if
        its prompts are too long to wait; EngineStoppedError without an engine."""
        ticket.carry(call.num_prompt_tokens)
        started = time.monotonic()
        stream = self.engine.submit(call.requests)
        return Answer(
            call,
            stream,
            on_first=lambda: ticket.begin(time.monotonic() - started),
            times=times,
            dollars=dollars,
        )

    def bytes_of(self, token_id: int) -> bytes:
        tokenizer = self.text.tokenizer
        return b"%d " % token_id if tokenizer is None else tokenizer.token_bytes(token_id)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._grammar_threads.shutdown(wait=False, cancel_futures=True)
        self.checker.close()
        self.text.close()

    def _chat_call(self, conversation: Conversation, params: SamplingParams, caller: Caller) -> Call:
        tools = conversation.choice.select(conversation.tools)
        prompt = self._render(conversation)
        reasoning, is_open = reasoning_for(self._template_source, prompt)
        around = Surroundings(self._control_tokens, reasoning, is_open)
        grammar = self._grammar(params.grammar, conversation, around)
        markers = [*(self._format.markers if tools else ()), *(REASONING_MARKERS if reasoning else ())]
        self.text.require_room(self.context, prompt)
        ids = self.text.encode_rendered(prompt)
        request = self._request(ids, _with_grammar(params, grammar), caller, self._token_ids(markers))
        return Call(
            [request],
            lambda: AnswerParser(self._format, tools=tools, reasoning=reasoning, reasoning_open=is_open),
        )

    def _completion_call(self, prompts: Sequence[str | Sequence[int]], params: SamplingParams, caller: Caller) -> Call:
        if not prompts:
            raise RequestError("there is no prompt", fix="give at least one")
        if len(prompts) * params.n > MAX_CHOICES:
            raise RequestError(
                f"{len(prompts)} prompts of {params.n} samples each are too many", fix=f"at most {MAX_CHOICES} in all"
            )
        if params.grammar is not None:
            self.checker.check(params.grammar)
        for prompt in prompts:
            if isinstance(prompt, str):
                self.text.require_room(self.context, prompt)
        ids = [self.text.encode(prompt) if isinstance(prompt, str) else tuple(prompt) for prompt in prompts]
        return Call([self._request(prompt_ids, params, caller, ()) for prompt_ids in ids], lambda: AnswerParser(None))

    def _render(self, conversation: Conversation) -> str:
        if self.text.template is None:
            raise ChatTemplateError("this model has no chat template", fix="use /v1/completions")
        self.text.require_room(self.context, *_texts(conversation.messages))
        num_thoughts = sum(len(message.get("reasoning_content") or "") for message in conversation.messages)
        if num_thoughts > _MAX_THOUGHTS_A_TOKEN * self.context:
            what = f"the thoughts of earlier turns have {num_thoughts:,} characters"
            raise RequestError(what, fix="leave out those of the oldest turns")
        # A named choice leaves the others in the prompt: it stays the same, and with it the cached prefix.
        tools = () if conversation.choice.mode == "none" else conversation.tools
        messages = normalise(
            conversation.messages, template_source=self._template_source, format=self._format, tools=tools
        )
        described = template_tools(tools, template_source=self._template_source)
        options = {name: value for name, value in conversation.options.items() if name in TEMPLATE_OPTIONS}
        return self.text.template.render(messages, tools=described, extra=options)

    def _grammar(self, form: Grammar | None, conversation: Conversation, around: Surroundings) -> Grammar | None:
        """Calls where they are demanded; else calls or an answer of the form that was asked for."""
        choice = conversation.choice
        if form is not None:
            self.checker.check(form)  # by itself first, so that a mistake is told in its own terms
        if not choice.select(conversation.tools):
            grammar = None if form is None else after_thought(form, around)
        elif form is None or choice.demands_call:
            grammar = self._tool_grammar(conversation, around)
        else:
            demanded = dataclasses.replace(conversation, choice=ToolChoice("required", None, choice.parallel))
            calls = self._tool_grammar(demanded, Surroundings(around.control_tokens))
            assert calls is not None
            grammar = calls_or_answer(calls, form, around)
        if grammar is not None:
            self.checker.check(grammar)
        return grammar

    def _tool_grammar(self, conversation: Conversation, around: Surroundings) -> Grammar | None:
        """With the tools' own schemas; for one that is beyond us with any object, unless the tool is `strict`."""
        deadline = time.monotonic() + _TOOLS_SECONDS
        lenient = frozenset(tool.name for tool in conversation.tools if not self._can_enforce(tool, around, deadline))
        around = dataclasses.replace(around, lenient=lenient)
        return self._format.grammar(conversation.tools, conversation.choice, around)

    def _can_enforce(self, tool: Tool, around: Surroundings, deadline: float) -> bool:
        """Behind the deadline no schema is tried any more."""
        if time.monotonic() > deadline:
            if tool.strict:
                raise RequestError("the schemas of the tools take too long to compile", fix="simplify them")
            return False
        try:
            alone = self._format.grammar([tool], ToolChoice("required"), around)
            if alone is not None:
                self.checker.check(alone)
        except RequestError:
            if tool.strict:
                raise
            return False
        return True

    def _request(
        self, prompt_ids: tuple[int, ...], params: SamplingParams, caller: Caller, visible_ids: tuple[int, ...]
    ) -> Request:
        if not -MAX_PRIORITY <= caller.priority <= MAX_PRIORITY:
            raise RequestError(f"priority is {caller.priority}", fix=f"from {-MAX_PRIORITY} to {MAX_PRIORITY}")
        request = Request(
            f"{next(self._numbers)}-{secrets.token_hex(4)}",
            prompt_ids,
            params,
            params.seed if params.seed is not None else secrets.randbits(63),
            priority=caller.priority,
            salt=caller.key_id,
            visible_ids=visible_ids,
        )
        check_request(request, context=self.context, vocab_size=self.text.vocab_size)
        return request

    def _token_ids(self, spellings: Sequence[str]) -> tuple[int, ...]:
        """Ids of those marks that are control tokens of this model."""
        return tuple(self._control_tokens[spelling] for spelling in spellings if spelling in self._control_tokens)

    async def _on_thread(self, work: Callable[[], _T], threads: ThreadPoolExecutor | None = None) -> _T:
        return await asyncio.get_running_loop().run_in_executor(threads or self._threads, work)


def _texts(messages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What every template writes out; thoughts of earlier turns, for one, are often left out."""
    for message in messages:
        yield str(message.get("content") or "")
        for call in message.get("tool_calls") or ():
            yield str(call["function"].get("arguments") or "")


def _with_grammar(params: SamplingParams, grammar: Grammar | None) -> SamplingParams:
    return params if grammar is params.grammar else dataclasses.replace(params, grammar=grammar)
