"""Whether a prompt looks like English: the bundled model knows nothing else, and a person should be told so.

A guess from letters and the commonest words; knows no language model and no other language.
"""

import re

# The commonest English words (function words, and those of short prompts to a small model).
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_COMMON = frozenset(
    _WORD.findall(
        """
    a about after again all am an and animal any are as ask at be because been before best big boy but by can cat
    colour color could day did do does dog down even find first for from fox friend get girl give go good goodbye
    had has have he hello help her here hey hi him his how i if in into is it its just king know like little long
    look love made make man many may me more morning most mother my name new night no not now of off old on once one
    only opposite or other our out over people please princess put question red said say see she should sing so some
    story sun sum take talk tell thank thanks that the their them then there they thing think this time to two up
    upon us use very want was water way we well were what when where which who why will with woman word work world
    would write yes you your
        """
    )
)
_MIN_COMMON_SHARE = 0.2
_MAX_OTHER_LETTERS = 0.1
_MIN_WORDS = 3  # of fewer words, names say nothing


def looks_english(text: str) -> bool:
    """False if over a tenth of the letters are not a-z, or if hardly any of three or more words is a common one."""
    letters = [character for character in text.lower() if character.isalpha()]
    if not letters:
        return True
    if sum(not "a" <= character <= "z" for character in letters) > _MAX_OTHER_LETTERS * len(letters):
        return False
    words = _WORD.findall(text.lower())
    common = sum(word.split("'")[0] in _COMMON for word in words)
    return len(words) < _MIN_WORDS or common >= _MIN_COMMON_SHARE * len(words)
