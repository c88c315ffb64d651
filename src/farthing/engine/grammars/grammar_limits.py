"""How large a grammar may be. In a file of its own, because the server reads it without loading a compiler."""

MAX_SOURCE_BYTES = 64 * 2**10
MAX_DEPTH = 64
"""Levels of objects and arrays in a JSON schema."""
MAX_ENUM_VALUES = 1_000
MAX_CHOICES = 1_000
MAX_REPEATS = 10_000
"""Of one thing: {m,n} in a regular expression, the least length of a string, the least items of an array."""
MAX_AT_MOST = 1_000_000
"""For maxLength, maxItems and maxProperties."""
MAX_REGEX_SIZE = 50_000
"""Characters and classes of a regular expression with its repetitions written out."""
