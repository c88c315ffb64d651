"""Where text that a user wrote spells a control token ("<|eot_id|>"), and how to keep it text.

Tokenizers turn the spelling of a control token into the token. That is right for what a chat template writes and wrong
for what a user writes: a message could end its own turn and begin a system turn. So user text is cut after the first
character of every such spelling before it is tokenised; in messages, which a template still has to move about, the cut
is a mark, the noncharacter U+FDD0, that Tokenizer.encode removes. Text without such spellings is not touched. What this
can't see is a spelling that a normaliser makes of other characters (NFKC; no tokenizer of the LLaMA family has it).
"""

import itertools
import re
from collections.abc import Iterable

from farthing.errors import TokenizerError

CUT_MARK = "\ufdd0"  # never assigned; text has no use for it

_NEVER = "(?!)"
_MAX_CHARACTERS = 2**17  # of all spellings; 771 control tokens of Mistral have 10,000
_TRUSTED = "use the tokenizer of a checkpoint that you trust"


class Spellings:
    """A set of control-token spellings. All searches are linear in the text, whatever the spellings have in common."""

    def __init__(self, spellings: Iterable[str]) -> None:
        known = frozenset(spellings)
        breakable = {spelling for spelling in known if len(spelling) > 1}
        total = sum(map(len, known))
        if total > _MAX_CHARACTERS:
            raise TokenizerError(f"the control tokens of the tokenizer have {total:,} characters", fix=_TRUSTED)
        try:
            tails = {c: _prefix_tree({s[1:] for s in breakable if s[0] == c}) for c in {s[0] for s in breakable}}
            self._head = re.compile("|".join(f"{re.escape(c)}(?={tail})" for c, tail in tails.items()) or _NEVER)
            self._whole = re.compile(f"({_prefix_tree(known) if known else _NEVER})")
        except RecursionError as error:
            what = "the control tokens of the tokenizer are prefixes of each other, hundreds deep"
            raise TokenizerError(what, fix=_TRUSTED) from error

    def cut(self, text: str) -> list[str]:
        """The pieces of `text`; none of them spells a control token of two or more characters, joined they are it."""
        bounds = [0, *(match.end() for match in self._head.finditer(text)), len(text)]
        return [text[start:end] for start, end in itertools.pairwise(bounds)]

    def mark(self, text: str) -> str:
        """`text` with a CUT_MARK inside every spelling, and without the ones that were in it."""
        return CUT_MARK.join(self.cut(text.replace(CUT_MARK, "")))

    def split(self, text: str) -> list[str]:
        """Text, spelling, text, ..., text: the longest spelling at each place, texts possibly empty."""
        return self._whole.split(text)


def _prefix_tree(words: Iterable[str]) -> str:
    """A regular expression for any of `words`, longest first, that reads each character of the text once."""
    words = set(words)
    rest = words - {""}
    if not rest:
        return ""
    if len({word[0] for word in rest}) == 1:
        first, last = min(rest), max(rest)
        shared = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), len(first))
        tree = re.escape(first[:shared]) + _prefix_tree({word[shared:] for word in rest})
    else:
        branches = ({word for word in rest if word[0] == head} for head in sorted({word[0] for word in rest}))
        tree = f"(?:{'|'.join(map(_prefix_tree, branches))})"
    return f"(?:{tree})?" if "" in words else tree
