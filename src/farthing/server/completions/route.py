"""`POST /v1/completions`: text or token ids continued, as OpenAI's older API has it."""

from collections.abc import Sequence

from fastapi import APIRouter, Request
from starlette.responses import Response

from farthing.errors import RequestError
from farthing.server.answer import Call
from farthing.server.completions.dialect import CompletionDialect
from farthing.server.completions.schema import Completion, CompletionRequest
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
        prompts = _prompts(fields.prompt)

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


def _prompts(prompt: str | list[int] | list[str] | list[list[int]]) -> Sequence[str | Sequence[int]]:
    if isinstance(prompt, str):
        return [prompt]
    ids = [item for item in prompt if isinstance(item, int)]
    prompts: list[str | Sequence[int]] = [item for item in prompt if not isinstance(item, int)]
    if ids:
        prompts.append(ids)  # one prompt, as a flat list
    if not prompts:
        raise RequestError("the prompt is empty", fix="give at least one token of text")
    return prompts


def _echo(service: Service, prompt_ids: Sequence[int]) -> str:
    tokenizer = service.text.tokenizer
    return b"".join(map(service.bytes_of, prompt_ids)).decode() if tokenizer is None else tokenizer.decode(prompt_ids)
