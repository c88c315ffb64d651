"""`POST /v1/completions`: text or token ids continued, as OpenAI's older API has it."""

import asyncio
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from farthing.errors import ContextLengthError, RequestError
from farthing.server.answer import Call
from farthing.server.completions.dialect import CompletionDialect
from farthing.server.completions.schema import Completion, CompletionRequest, Prompt
from farthing.server.desk import Desk
from farthing.server.documented import generation_responses
from farthing.server.fields import ignored, requested_grammar, sampling_params
from farthing.server.json_route import json_router
from farthing.server.logprobs import Spelling
from farthing.server.service import Caller, Service


def router(desk: Desk) -> APIRouter:
    routes = json_router()

    @routes.post("/v1/completions", responses=generation_responses(Completion), tags=["generate"])
    async def completions(fields: CompletionRequest, http: Request) -> Response:
        """Continue one or several prompts."""
        service = desk.service
        model = service.require_model(fields.model)
        scores_only = fields.max_tokens == 0 and bool(fields.echo)
        params = sampling_params(
            fields,
            service.text.generation_defaults,
            max_tokens=1 if scores_only else 16 if fields.max_tokens is None else fields.max_tokens,
            logprobs=fields.logprobs,
            prompt_logprobs=fields.logprobs if fields.echo else None,
            grammar=requested_grammar(fields),
        )
        key_id = http.state.key_id or ""
        prompts = _prompts(fields.prompt, service.context)
        echoes: list[str] = []

        async def translate() -> Call:
            texts = prompts if fields.add_special_tokens is not False else await _without_special(service, prompts)
            call = await service.completion_call(texts, params, Caller(key_id, fields.priority or 0))
            if fields.echo:
                echoes.extend(await asyncio.to_thread(_prompt_texts, service, call))
            return call

        def dialect(call: Call) -> CompletionDialect:
            return CompletionDialect(
                model,
                call,
                spelling=_spelling(service),
                logprobs=fields.logprobs is not None,
                include_usage=bool(fields.stream_options and fields.stream_options.include_usage),
                echoes=echoes if fields.echo else None,
                scores_only=scores_only,
            )

        return await desk.answer(
            "completions",
            translate,
            dialect,
            streamed=bool(fields.stream),
            unknown_fields=ignored(fields),
            key_id=key_id,
        )

    return routes


def _prompts(prompt: Prompt, context: int) -> Sequence[str | Sequence[int]]:
    """Texts or lists of ids. ContextLengthError or RequestError for a list that is none or too long."""
    if isinstance(prompt, str):
        return [prompt]
    if not prompt:
        raise RequestError("the prompt is empty", fix="give at least one token of text")
    prompts: Sequence[Any] = prompt if isinstance(prompt[0], str | list) else [prompt]
    for ids in prompts:
        if isinstance(ids, list):
            if len(ids) >= context:
                raise ContextLengthError(len(ids), context)
            if any(type(token_id) is not int for token_id in ids):
                raise RequestError("a prompt has something else among its token ids", fix="send whole numbers")
    return prompts


async def _without_special(service: Service, prompts: Sequence[str | Sequence[int]]) -> list[Sequence[int]]:
    """The prompts as token ids, those of a text without the token that begins a sequence."""
    return [
        await service.tokenize(prompt, add_special=False) if isinstance(prompt, str) else prompt for prompt in prompts
    ]


def _prompt_texts(service: Service, call: Call) -> list[str]:
    """The text of each request's prompt. A prompt may fill the context: not for the thread of the streams."""
    tokenizer = service.text.tokenizer
    if tokenizer is None:
        return [b"".join(map(service.bytes_of, request.prompt_ids)).decode() for request in call.requests]
    return [tokenizer.decode(request.prompt_ids) for request in call.requests]


def _spelling(service: Service) -> Spelling:
    tokenizer = service.text.tokenizer
    if tokenizer is None:
        return Spelling(service.bytes_of)
    return Spelling(service.bytes_of, tokenizer.special_ids, tokenizer.strips_leading_space)
