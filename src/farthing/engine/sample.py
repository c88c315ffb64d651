"""A sample of a request while it runs: from the scheduler's tokens to deltas of text.

Knows no scheduling and no batches; engine.py holds one for each running sequence.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from farthing.engine.grammars.grammar import GrammarMatcher
from farthing.engine.request import Delta, Request
from farthing.engine.tokenization.detokenizer import Detokenizer
from farthing.sampling_params import TokenLogprobs


@dataclass(slots=True)
class Sample:
    """A running sample: its sequence in the scheduler, and its text. Without a tokenizer its text is its ids.
    `grammar`: that of its request, as it was before the first token."""

    request: Request
    index: int
    seq_id: int
    detokenizer: Detokenizer | None
    grammar: GrammarMatcher | None = None

    def delta(
        self,
        token_id: int | None,
        finish_reason: str | None,
        *,
        stop_token: int | None = None,
        num_cached_tokens: int = 0,
        logprobs: TokenLogprobs | None = None,
        prompt_logprobs: Sequence[TokenLogprobs] = (),
    ) -> Delta:
        """Take in one token; a token that ends the sample by its id is not part of its text."""
        is_text = token_id is not None and token_id != stop_token
        text = f"{token_id} " if is_text else ""
        stop_reason: str | int | None = stop_token if finish_reason == "stop" else None
        if self.detokenizer is not None:
            text = self.detokenizer.push(token_id) if is_text and token_id is not None else ""
            if self.detokenizer.stop_found is not None:
                finish_reason, stop_reason = "stop", self.detokenizer.stop_found
            elif finish_reason is not None:
                text += self.detokenizer.finish()
        return Delta(
            self.request.request_id,
            self.index,
            text,
            (token_id,) if is_text and token_id is not None else (),
            finish_reason,
            stop_reason,
            num_cached_tokens,
            (logprobs,) if is_text and logprobs is not None else (),
            tuple(prompt_logprobs),
        )
