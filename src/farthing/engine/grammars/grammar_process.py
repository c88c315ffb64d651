"""The helper process that tries grammars: it compiles one and takes a walk through it, asked in lines of JSON.

A grammar comes from whoever may send a request, and compiling it is native code that such people can keep busy or bring
down. It happens here first, with a byte as a token, so that no model's vocabulary is needed; helper_process.py kills
what takes too long. What passes here has answered masks for WALK_TOKENS tokens within the limits of the engine.
"""

import json
import resource
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress

from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from farthing.engine.grammars.grammar_source import (
    MAX_ERROR_CHARACTERS,
    cannot_compile,
    llguidance_grammar,
    parser_limits,
)
from farthing.errors import RequestError
from farthing.sampling_params import Grammar

MAX_MEMORY_BYTES = 256 * 2**20  # beyond what the process has when it is ready
ORPHAN_SECONDS = 10  # a helper whose parent has died ends itself
WALK_TOKENS = 48

_TEXT = b'"a0.-:/@ ,]}[{ntfxe1Zz_'  # what a walk would rather say than anything else, and in turn


class ByteTokens:
    """A vocabulary of bytes, around the special tokens of a model, which stand at their own ids. In the form that
    llguidance's TokenizerWrapper reads."""

    def __init__(self, special_tokens: Mapping[str, int]) -> None:
        size = max(512, max(special_tokens.values(), default=0) + 257)
        self.tokens = [b""] * size
        for text, token_id in special_tokens.items():
            self.tokens[token_id] = text.encode()
        free = [token_id for token_id in range(size) if not self.tokens[token_id]]
        self.ids = free[:256]
        for byte, token_id in enumerate(self.ids):
            self.tokens[token_id] = bytes((byte,))
        self.tokens.append(b"<end of text>")
        self.eos_token_id = size
        self.bos_token_id = None
        self.special_token_ids = [*special_tokens.values(), size]

    def __call__(self, text: bytes) -> list[int]:
        return [self.ids[byte] for byte in text]


def check(grammar: Grammar, tokens: ByteTokens, tokenizer: LLTokenizer) -> None:
    """RequestError if the grammar is broken, allows nothing, or costs more than the limits."""
    matcher = LLMatcher(tokenizer, llguidance_grammar(grammar), log_level=0, limits=parser_limits())
    for turn in range(WALK_TOKENS):
        if matcher.is_error():
            raise cannot_compile(grammar, matcher.get_error())
        bits = matcher.compute_bitmask()
        if matcher.is_error():
            raise cannot_compile(grammar, matcher.get_error())
        allowed = [i for i in range(tokens.eos_token_id) if bits[i // 8] >> (i % 8) & 1]
        if not allowed:
            if not matcher.is_accepting():
                raise RequestError("the grammar allows no text at all", fix="correct it")
            return
        liked = [tokens.ids[byte] for byte in _TEXT if tokens.ids[byte] in allowed] or allowed
        matcher.consume_token(liked[turn % len(liked)])


def _confine() -> None:
    """Limits of this process, as far as the platform has them: memory, no new files, no children, no writing."""
    limits = {"RLIMIT_NOFILE": 3, "RLIMIT_NPROC": 0, "RLIMIT_FSIZE": 0, "RLIMIT_CORE": 0}
    with suppress(OSError, ValueError, IndexError), open("/proc/self/statm") as sizes:
        limits["RLIMIT_AS"] = int(sizes.read().split()[0]) * resource.getpagesize() + MAX_MEMORY_BYTES
    for name, limit in limits.items():
        with suppress(AttributeError, ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (limit, limit))


def main() -> None:
    """Answers requests until stdin ends: {"kind", "source"} gives {"ok"} or {"error", "fix"}, {"special_tokens"} makes
    them known. The first line, {"ready"}, comes when all is loaded and the limits are in force."""
    tokens = ByteTokens({})
    tokenizer = LLTokenizer(TokenizerWrapper(tokens), slices=[])
    check(Grammar("json_object"), tokens, tokenizer)  # what is loaded on first use is loaded now
    _confine()
    _answer({"ready": True})
    for line in sys.stdin.buffer:
        signal.alarm(ORPHAN_SECONDS)
        try:
            request = json.loads(line)
            if "special_tokens" in request:
                tokens = ByteTokens(request["special_tokens"])
                tokenizer = LLTokenizer(TokenizerWrapper(tokens), slices=[])
            else:
                check(Grammar(request["kind"], request["source"]), tokens, tokenizer)
            answer: dict[str, object] = {"ok": True}
        except RequestError as error:
            answer = {"error": error.what[:MAX_ERROR_CHARACTERS], "fix": error.fix[:MAX_ERROR_CHARACTERS]}
        except Exception as error:
            answer = {"error": f"{type(error).__name__} {error}"[:MAX_ERROR_CHARACTERS], "fix": "", "worn": True}
        signal.alarm(0)
        _answer(answer)


def _answer(answer: dict[str, object]) -> None:
    sys.stdout.buffer.write(json.dumps(answer).encode() + b"\n")
    sys.stdout.buffer.flush()
