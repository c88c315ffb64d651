"""`POST /v1/completions`: text or token ids continued, as OpenAI's older API has it."""

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

        def dialect(call: Call) -> CompletionDialect:
            ids = [request.prompt_ids for request in call.requests for _ in range(request.params.n)]
            return CompletionDialect(
                model,
                bytes_of=service.bytes_of,
                logprobs=fields.logprobs is not None,
                include_usage=bool(fields.stream_options and fields.stream_options.include_usage),
                echoes=[_echo(service, prompt) for prompt in ids] if fields.echo else [""] * len(ids),
                first_ids=[prompt[0] for prompt in ids],
                scores_only=scores_only,
            )

        return await desk.answer(
            "completions",
            lambda: service.completion_call(prompts, params, Caller(key_id, fields.priority or 0)),
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


def _echo(service: Service, prompt_ids: Sequence[int]) -> str:
    tokenizer = service.text.tokenizer
    return b"".join(map(service.bytes_of, prompt_ids)).decode() if tokenizer is None else tokenizer.decode(prompt_ids)
