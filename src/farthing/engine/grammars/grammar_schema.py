"""JSON schemas for llguidance: what can't be enforced is refused by name, the rest rewritten so that it is enforced.

An answer must validate under a JSON Schema validator (2020-12), and the compiler alone does not see to that: it ignores
some keywords, reads others its own way, and follows references that never end. What comes out of `enforceable` holds
enforced keywords only; every target of a reference stands in its `$defs`. Knows JSON and no tokens.
"""

import json
import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from farthing.engine.grammars.grammar_limits import MAX_AT_MOST, MAX_DEPTH, MAX_ENUM_VALUES, MAX_REPEATS
from farthing.engine.grammars.grammar_pattern import strict_pattern
from farthing.errors import RequestError

MAX_VISITS = 100_000
"""Of parts of a schema on the search for a finite value."""
FORMATS = frozenset(("date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uri", "uuid"))

_TYPES = frozenset(("array", "boolean", "integer", "null", "number", "object", "string"))
_NUMBER_FORMATS = frozenset(("int32", "int64", "float", "double"))  # of OpenAPI: they tell how to store a number
_LARGEST_BOUND = 2**63 - 1024  # the compiler computes integer bounds in 64 bits
_EXACT_INTEGER = 2**53

# Keywords that constrain and that no grammar here enforces, each with a value that constrains nothing.
_REFUSED: Mapping[str, object] = {
    "$dynamicRef": None, "$recursiveRef": None, "additionalItems": True, "contains": None, "dependencies": {},
    "dependentRequired": {}, "dependentSchemas": {}, "disallow": [], "divisibleBy": None, "else": True, "extends": {},
    "if": None, "maxContains": None, "minContains": None, "not": False, "propertyNames": True, "then": True,
    "unevaluatedItems": True, "unevaluatedProperties": True, "uniqueItems": False,
}  # fmt: skip
# What libraries of dates want beyond the compiler's formats: no year 0, and 29 February in leap years only.
_YEAR = "(?:000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-9][0-9]{3})"
_LEAP_YEAR = "(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)"
_DATE = f"^(?:{_YEAR}-(?:0[13-9]-|1[0-2]-|02-[01]|02-2[0-8])|{_LEAP_YEAR}-02-29)"
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_SUPPORTED = "leave it out, or say it with keywords that are enforced"


def enforceable(source: str) -> dict[str, Any]:
    """The schema in `source`, for the compiler. RequestError, naming keyword and place, if it can't be enforced."""
    try:
        schema = json.loads(source, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"the JSON schema is not JSON: {error}"[:300], fix="send valid JSON") from error
    if _depth(schema) > MAX_DEPTH:
        raise RequestError(f"the JSON schema is nested deeper than {MAX_DEPTH} levels", fix="use $defs and $ref")
    return _Rewriting(schema).run()


class _Rewriting:
    """One schema on its way. `pointers`: the references met so far, and the name of each in the new `$defs`."""

    def __init__(self, root: object) -> None:
        self.root = root
        self.pointers: dict[str, str] = {}
        self.num_enum_values = 0

    def run(self) -> dict[str, Any]:
        result = self.schema(self.root, "#")
        if result is False:
            raise RequestError("no value satisfies the JSON schema false", fix="send a schema that allows something")
        assert isinstance(result, dict)
        defs: dict[str, Any] = {}
        while len(defs) < len(self.pointers):  # targets bring references of their own
            pointer = list(self.pointers)[len(defs)]
            defs[self.pointers[pointer]] = self.schema(self.target(pointer), pointer)
        if not _Ends(defs).can_end(result):
            raise RequestError(
                "no finite value satisfies the JSON schema: a required part of it contains itself",
                fix="let the recursion end: an optional property, an empty array, or null in anyOf",
            )
        try:
            json.dumps(result | defs, allow_nan=False).encode()
        except ValueError as error:
            raise RequestError("a number in the JSON schema is beyond what computers hold", fix="lower it") from error
        return result | {"$defs": defs} if defs else result

    def schema(self, schema: object, place: str) -> dict[str, Any] | bool:
        if isinstance(schema, bool):
            return {} if schema else False
        if not isinstance(schema, dict):
            raise _wrong(place, "a schema is an object or a boolean")
        result: dict[str, Any] = {}
        for keyword, value in schema.items():  # in their order: it is the order of the properties of an answer
            if keyword in _REFUSED and value != _REFUSED[keyword]:
                raise RequestError(f"the keyword {keyword!r} at {place} can't be enforced", fix=_SUPPORTED)
            if keyword == "const":
                result[keyword] = value
            elif keyword in _REWRITERS and not (keyword == "format" and value in _NUMBER_FORMATS):
                result[keyword] = _REWRITERS[keyword](self, value, f"{place}/{keyword}")
        if result.get("format") in ("date", "date-time"):
            result["allOf"] = [*result.get("allOf", ()), {"pattern": _DATE}]
        return _with_distinct_properties(result, place)

    def target(self, pointer: str) -> object:
        found = self.root
        for part in pointer.split("/")[1:]:
            name = part.replace("~1", "/").replace("~0", "~")
            if isinstance(found, dict) and name in found:
                found = found[name]
            elif isinstance(found, list) and name.isascii() and name.isdigit() and int(name) < len(found):
                found = found[int(name)]
            else:
                raise RequestError(f"$ref {pointer!r:.80} points to nothing", fix="define it in the schema")
        return found

    def ref(self, value: object, place: str) -> str:
        if not isinstance(value, str) or not (value == "#" or value.startswith("#/")) or "%" in value:
            raise RequestError(
                f"{place} is {value!r:.80}, and nothing is fetched from elsewhere",
                fix="refer to a part of the same schema: '#' or '#/$defs/name'",
            )
        return "#/$defs/" + self.pointers.setdefault(value, f"r{len(self.pointers)}")

    def type_names(self, value: object, place: str) -> object:
        names = value if isinstance(value, list) else [value]
        if not names or not all(isinstance(name, str) and name in _TYPES for name in names):
            raise _wrong(place, f"a type is one of {', '.join(sorted(_TYPES))}, or a list of these")
        return value

    def values(self, value: object, place: str) -> object:
        if not isinstance(value, list) or not value:
            raise _wrong(place, "it is a list of at least one value")
        self.num_enum_values += len(value)
        if self.num_enum_values > MAX_ENUM_VALUES:
            raise RequestError(f"the JSON schema has more than {MAX_ENUM_VALUES:,} enum values", fix="send fewer")
        return value

    def by_name(self, value: object, place: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _wrong(place, "it is an object of schemas")
        return {name: self.schema(each, f"{place}/{name:.40}") for name, each in value.items()}

    def by_pattern(self, value: object, place: str) -> dict[str, Any]:
        return {strict_pattern(name, place): each for name, each in self.by_name(value, place).items()}

    def listed(self, value: object, place: str) -> list[dict[str, Any] | bool]:
        if not isinstance(value, list) or not value:
            raise _wrong(place, "it is a list of at least one schema")
        return [self.schema(each, f"{place}/{index}") for index, each in enumerate(value)]

    def items(self, value: object, place: str) -> dict[str, Any] | bool:
        if isinstance(value, list):
            raise _wrong(place, "a list of schemas is called prefixItems")
        return self.schema(value, place)

    def names(self, value: object, place: str) -> object:
        if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
            raise _wrong(place, "it is a list of property names")
        return list(dict.fromkeys(value))

    def count(self, value: object, place: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1 or value < 0:
            raise _wrong(place, "it is a whole number from 0 on")
        limit = MAX_REPEATS if place.rsplit("/", 1)[-1].startswith("min") else MAX_AT_MOST
        if value > limit:
            raise RequestError(f"{place} is {value:,}, more than {limit:,}", fix="lower it, or leave it out")
        return int(value)

    def bound(self, value: object, place: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or value in (math.inf, -math.inf):
            raise _wrong(place, "it is a number (true and false belong to an old draft)")
        lower = "inimum" in place.rsplit("/", 1)[-1]
        if (value if lower else -value) > _LARGEST_BOUND:
            raise RequestError(f"{place} is {value!r:.40}: bounds go to {_LARGEST_BOUND:,}", fix="use a closer one")
        # The compiler computes integers with 64 bits and reads bounds as doubles: the stricter of the neighbours.
        value = max(min(value, _LARGEST_BOUND), -_LARGEST_BOUND)
        return value if abs(value) <= _EXACT_INTEGER else int(_double(int(value), math.inf if lower else -math.inf))

    def multiple(self, value: object, place: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _EXACT_INTEGER:
            raise _wrong(place, f"it is a number above 0, at most {_EXACT_INTEGER:,}")
        if Fraction(repr(value)) != Fraction(value):
            raise RequestError(
                f"{place} is {value}, which validators compute in binary fractions, and not exactly",
                fix="use a whole number of a smaller unit, or a binary fraction like 0.5 or 0.25",
            )
        return value

    def pattern(self, value: object, place: str) -> str:
        if not isinstance(value, str):
            raise _wrong(place, "it is a string")
        return strict_pattern(value, place)

    def format(self, value: object, place: str) -> object:
        if value not in FORMATS:
            raise RequestError(
                f"{place} is {value!r:.40}, a format that can't be enforced",
                fix=f"leave it out, or use a pattern or one of {', '.join(sorted(FORMATS))}",
            )
        return value


_REWRITERS: Mapping[str, Callable[[_Rewriting, object, str], object]] = {
    "$ref": _Rewriting.ref,
    "type": _Rewriting.type_names,
    "enum": _Rewriting.values,
    "properties": _Rewriting.by_name,
    "patternProperties": _Rewriting.by_pattern,
    "additionalProperties": _Rewriting.schema,
    "required": _Rewriting.names,
    "items": _Rewriting.items,
    **dict.fromkeys(("prefixItems", "anyOf", "oneOf", "allOf"), _Rewriting.listed),
    **dict.fromkeys(_COUNTS, _Rewriting.count),
    **dict.fromkeys(_BOUNDS, _Rewriting.bound),
    "multipleOf": _Rewriting.multiple,
    "pattern": _Rewriting.pattern,
    "format": _Rewriting.format,
}


def _with_distinct_properties(schema: dict[str, Any], place: str) -> dict[str, Any]:
    """A grammar can't see that two properties have the same name: no more than one may have to be made up."""
    fewest, required = schema.get("minProperties", 0), schema.get("required", ())
    if fewest <= len(required):
        return {keyword: value for keyword, value in schema.items() if keyword != "minProperties"}
    if fewest > len(required) + 1:
        raise RequestError(
            f"minProperties at {place} is {fewest}, and that properties are distinct can't be enforced",
            fix=f"name {fewest - 1} of them in required, or use an array of pairs",
        )
    return schema


class _Ends:
    """Whether some finite value has the shape of a rewritten schema. `good`: the definitions that are known to."""

    def __init__(self, defs: Mapping[str, Any]) -> None:
        self.defs = defs
        self.good: set[str] = set()
        self.num_visits = 0

    def can_end(self, schema: dict[str, Any] | bool, entered: frozenset[str] = frozenset()) -> bool:
        """`entered`: the references on the way here; a smallest value has none of them twice."""
        if isinstance(schema, bool):
            return schema
        self.num_visits += 1
        if self.num_visits > MAX_VISITS:
            raise RequestError("the references of the JSON schema are too entangled", fix="simplify it")
        if "$ref" in schema and not self._definition(schema["$ref"].removeprefix("#/$defs/"), entered):
            return False
        if not all(self.can_end(each, entered) for each in schema.get("allOf", ())):
            return False
        for keyword in ("anyOf", "oneOf"):
            if keyword in schema and not any(self.can_end(each, entered) for each in schema[keyword]):
                return False
        kinds = schema.get("type", "null")
        kinds = {kinds} if isinstance(kinds, str) else set(kinds)
        if "const" in schema or "enum" in schema or not kinds <= {"array", "object"}:
            return True
        return ("object" in kinds and self._object(schema, entered)) or (
            "array" in kinds and self._array(schema, entered)
        )

    def _definition(self, name: str, entered: frozenset[str]) -> bool:
        if name in self.good:
            return True
        if name in entered or not self.can_end(self.defs[name], entered | {name}):
            return False
        self.good.add(name)
        return True

    def _object(self, schema: dict[str, Any], entered: frozenset[str]) -> bool:
        properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
        return all(self.can_end(properties.get(name, others), entered) for name in schema.get("required", ()))

    def _array(self, schema: dict[str, Any], entered: frozenset[str]) -> bool:
        first, fewest = schema.get("prefixItems", []), schema.get("minItems", 0)
        needed = first[:fewest] + [schema.get("items", True)] * (fewest > len(first))
        return all(self.can_end(each, entered) for each in needed)


def _depth(value: object) -> int:
    """Levels of objects and arrays, level by level, so that no depth is too deep to count."""
    level, depth = [value], 0
    while level := [item for item in level if isinstance(item, dict | list)]:
        level = [each for item in level for each in (item.values() if isinstance(item, dict) else item)]
        depth += 1
    return depth


def _double(value: int, towards: float) -> float:
    """The nearest double that is not on the other side of `value`."""
    nearest = float(value)
    beyond = nearest < value if towards > 0 else nearest > value
    return math.nextafter(nearest, towards) if beyond else nearest


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _wrong(place: str, rule: str) -> RequestError:
    return RequestError(f"the JSON schema is wrong at {place}", fix=rule)
