"""Whether a request's grammar can be served, told before anything of the request reaches the engine.

Grammars are tried in a helper process (grammar_process.py) with little memory and time: a bad one is a clear error of
its own request, whatever it does to that process. Knows no HTTP, no tokenizer and no tensors.
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Mapping

from farthing.engine.grammars.grammar_limits import MAX_SOURCE_BYTES
from farthing.engine.helper_process import HelperBusyError, HelperError, HelperProcess, HelperStartError, printable
from farthing.errors import BusyError, EngineStoppedError, RequestError
from farthing.sampling_params import Grammar

CHECK_SECONDS = 1.5
MAX_KEPT_GRAMMARS = 256


class GrammarChecker:
    """Owns the helper process. `special_tokens` are those of the model, for Lark grammars that name them.

    `check` blocks for up to CHECK_SECONDS (the first one until the process has started) and is safe from several
    threads, one after the other; a grammar found good lately takes no time.
    """

    def __init__(self, special_tokens: Mapping[str, int] | None = None) -> None:
        self._helper = HelperProcess(
            "farthing.engine.grammars.grammar_process",
            packages=("farthing", "llguidance"),
            seconds=CHECK_SECONDS,
            first=json.dumps({"special_tokens": dict(special_tokens or {})}).encode(),
        )
        self._lock = threading.Lock()
        self._good: OrderedDict[Grammar, None] = OrderedDict()

    def check(self, grammar: Grammar) -> None:
        """RequestError if the grammar is broken, can't be enforced, or costs too much."""
        with self._lock:
            if grammar in self._good:
                self._good.move_to_end(grammar)
                return
        self._try(grammar)
        with self._lock:
            self._good[grammar] = None
            if len(self._good) > MAX_KEPT_GRAMMARS:
                self._good.popitem(last=False)

    def close(self) -> None:
        """End the helper process. A checker that is closed starts a new one when it is used again."""
        self._helper.stop()

    def _try(self, grammar: Grammar) -> None:
        if len(grammar.source) > MAX_SOURCE_BYTES:  # before it is copied anywhere
            raise RequestError(f"the grammar has more than {MAX_SOURCE_BYTES // 2**10} KiB", fix="send a smaller one")
        kind = grammar.kind.replace("_", " ")
        try:
            answer = self._helper.ask(json.dumps({"kind": grammar.kind, "source": grammar.source}).encode())
        except HelperStartError as error:
            raise EngineStoppedError(
                f"the helper process for grammars does not start ({error})", fix="send the request again later"
            ) from error
        except HelperBusyError as error:
            raise BusyError("many grammars wait to be tried", fix="send the request again") from error
        except HelperError as error:
            raise RequestError(f"compiling the {kind} {error}", fix="simplify it") from error
        if "error" in answer:
            raise RequestError(printable(answer["error"]), fix=printable(answer.get("fix", "")))
