"""Figures as the pages print them, the same in every language."""

GIB = 2**30


def count(value: float) -> str:
    return f"{value:,.0f}"


def times(value: float) -> str:
    """A ratio: three digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def gib(num_bytes: float) -> str:
    return f"{num_bytes / GIB:,.2f} GiB" if abs(num_bytes) < 1000 * GIB else f"{num_bytes / GIB:,.0f} GiB"


def gigabytes(num_bytes: float) -> str:
    return f"{num_bytes / 1e9:.2f} GB"


def dollars(value: float) -> str:
    return f"${value:,.0f}" if value >= 100 else f"${value:.2f}"


def rate(value: float) -> str:
    """Tokens per second, as a plan prints them."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:,.0f} ms" if seconds >= 0.01 else f"{seconds * 1e3:.1f} ms"


def split(tp: int, pp: int, replicas: int) -> str:
    return f"{tp} x {pp} x {replicas}"
