"""Base SI units to text for people. Inside Farthing a quantity is a float or int in its base unit; text is the edge.

Memory is printed in GiB (2^30) because cards and operating systems count so; file sizes and link rates in GB (10^9).
"""

_BINARY = ("B", "KiB", "MiB", "GiB", "TiB")
_DECIMAL = ("", "K", "M", "G", "T", "P")


def format_bytes(num_bytes: float) -> str:
    """Memory in binary units: 25_757_220_864 -> '23.99 GiB'."""
    value, unit = float(num_bytes), 0
    while abs(value) >= 1024 and unit < len(_BINARY) - 1:
        value, unit = value / 1024, unit + 1
    return f"{value:.0f} B" if unit == 0 else f"{value:.2f} {_BINARY[unit]}"


def format_count(value: float, unit: str = "") -> str:
    """A count or rate in decimal units: 1_008e9 with 'B/s' -> '1.01 TB/s'; 6_738_415_616 -> '6.74 G'."""
    scaled, prefix = float(value), 0
    while _rounded(scaled) >= 1000 and prefix < len(_DECIMAL) - 1:
        scaled, prefix = scaled / 1000, prefix + 1
    return f"{scaled:.3g} {_DECIMAL[prefix]}{unit}".rstrip()


def format_seconds(seconds: float) -> str:
    """A duration with the unit that suits it: 0.00123 -> '1.23 ms'; 75 -> '75 s'."""
    for factor, unit in ((1.0, "s"), (1e-3, "ms"), (1e-6, "us")):
        if _rounded(seconds / factor) >= 1:
            return f"{seconds / factor:.3g} {unit}" if _rounded(seconds) < 1000 else f"{seconds:.0f} s"
    return f"{seconds / 1e-9:.3g} ns"


def _rounded(value: float) -> float:
    """The magnitude that three printed digits show. It chooses the unit, so that 999.7 K is 1 M and not 1e+03 K."""
    return abs(float(f"{value:.3g}"))


def parse_bytes(text: str) -> int:
    """'20GiB', '512 MB', '1073741824' -> bytes. ValueError with the accepted forms otherwise."""
    digits = text.strip()
    number = digits.rstrip("KMGTiBkmgtb ").strip()
    unit = digits[len(number) :].strip().upper()
    factors = {"": 1, "B": 1}
    for power, letter in enumerate("KMGT", start=1):
        factors[f"{letter}IB"] = 1024**power
        factors[f"{letter}B"] = factors[letter] = 1000**power
    try:
        value = float(number) * factors[unit]
    except (KeyError, ValueError):
        raise ValueError(f"{text!r} is not a size; write it as 20GiB, 512MB or a number of bytes") from None
    if not 1 <= value < 2**63:
        raise ValueError(f"{text!r} is not a size between 1 byte and 8 EiB")
    return int(value)
