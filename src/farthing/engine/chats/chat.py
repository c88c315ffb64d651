"""Chat messages to the text of a prompt, by the template that the model's own files bring - never by one of a request.

A template runs in a helper process (template_process.py) without memory, files or time to spare: killed after a second,
replaced, and tried once before anything is served. Renders as transformers renders, except that a control token which
a message spells out stays text (tokenizer_spellings.py). Knows no HTTP and no tokenizer library.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from farthing.engine.helper_process import HelperBusyError, HelperError, HelperProcess, HelperStartError, printable
from farthing.engine.tokenization.tokenizer import Tokenizer
from farthing.engine.tokenization.tokenizer_spellings import Spellings
from farthing.errors import BusyError, ChatTemplateError

MAX_SOURCE_CHARACTERS = 2**20  # the longest real templates have 0.03 million
MAX_REQUEST_BYTES = 32 * 2**20
RENDER_SECONDS = 1.0

_OTHER_TEMPLATE = "use a checkpoint whose chat template is sound, or complete plain text instead of chatting"
_RESERVED = frozenset(("messages", "tools", "documents", "add_generation_prompt"))  # set here, or by the model's files


class ChatTemplate:
    """The chat template of one model. Rendering blocks for up to RENDER_SECONDS and is safe from several threads.

    `special_tokens` are those that the template may name ("bos_token": "<s>"), `control_tokens` all spellings that
    messages must not smuggle in (by default the same), `now` the clock behind `strftime_now`. ChatTemplateError if
    the template is broken or hostile: it has to render one short conversation within the limits.
    """

    def __init__(
        self,
        source: str,
        *,
        special_tokens: Mapping[str, str],
        control_tokens: Iterable[str] | None = None,
        now: Callable[[], datetime] = datetime.now,
    ) -> None:
        if len(source) > MAX_SOURCE_CHARACTERS:
            raise ChatTemplateError(
                f"the chat template has {len(source):,} characters, more than {MAX_SOURCE_CHARACTERS:,}",
                fix=_OTHER_TEMPLATE,
            )
        self._special_tokens = dict(special_tokens)
        self._spellings = Spellings(special_tokens.values() if control_tokens is None else control_tokens)
        self._now = now
        self._helper = HelperProcess(
            "farthing.engine.chats.template_process",
            packages=("farthing", "jinja2", "markupsafe"),
            seconds=RENDER_SECONDS,
            first=json.dumps({"source": source}).encode(),
        )
        try:
            self.render([{"role": "user", "content": "Hello"}])
        except ChatTemplateError as error:
            self.close()
            raise ChatTemplateError(f"{error.what} (tried with one short message)", fix=_OTHER_TEMPLATE) from error

    def render(
        self,
        messages: Sequence[Mapping[str, object]],
        *,
        add_generation_prompt: bool = True,
        tools: Sequence[Mapping[str, object]] | None = None,
        extra: Mapping[str, object] | None = None,
    ) -> str:
        """The text of the prompt, for Tokenizer.encode(..., add_special=False, parse_special=True).

        Messages, tools and `extra` (more variables for the template, as {"enable_thinking": False}) are JSON values.
        Where one of them spells a control token, the text has a CUT_MARK in it, which the tokenizer removes.
        """
        taken = _RESERVED | self._special_tokens.keys()
        for name in extra or ():
            if name in taken or not name.isidentifier():
                raise ChatTemplateError(f"{name[:40]!r} can't be set for the chat template", fix="leave it out")
        given = {"messages": list(messages), "tools": tools, **(extra or {})}
        fixed = {"documents": None, "add_generation_prompt": add_generation_prompt, **self._special_tokens}
        try:
            variables = fixed | {name: self._marked(value) for name, value in given.items()}
            request = json.dumps({"variables": variables, "now": self._now().isoformat()}).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise ChatTemplateError(
                f"the messages can't be handed to the chat template: {error}", fix="they must be plain JSON values"
            ) from error
        if len(request) > MAX_REQUEST_BYTES:
            raise ChatTemplateError(f"the messages have more than {MAX_REQUEST_BYTES // 2**20} MiB", fix="send less")
        return self._ask(request)

    def close(self) -> None:
        """End the helper process. A template that is closed starts a new one when it is used again."""
        self._helper.stop()

    def _ask(self, request: bytes) -> str:
        try:
            answer = self._helper.ask(request)
        except HelperStartError as error:
            raise ChatTemplateError(
                f"the helper process for chat templates does not start ({error})",
                fix="free some memory, or install again: pip install 'farthing[serve]'",
            ) from error
        except HelperBusyError as error:
            raise BusyError("many conversations wait to be rendered", fix="send the request again") from error
        except HelperError as error:
            raise ChatTemplateError(f"the chat template {error}", fix=_OTHER_TEMPLATE) from error
        if "error" in answer:
            raise ChatTemplateError(
                f"the chat template failed: {printable(answer['error'])}", fix="check roles and content of the messages"
            )
        return str(answer.get("text", ""))

    def _marked(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._spellings.mark(value)
        if isinstance(value, Mapping):
            return {self._marked(key): self._marked(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return [self._marked(item) for item in value]
        return value


def load_chat_template(tokenizer: Tokenizer) -> ChatTemplate | None:
    """The chat template of a model's files, tried; None where the model has none."""
    if tokenizer.chat_template is None:
        return None
    return ChatTemplate(
        tokenizer.chat_template, special_tokens=tokenizer.named_tokens, control_tokens=tokenizer.special_tokens
    )
