"""Numbers as a person reads them: times, figures, counts."""


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss; below an hour as m:ss."""
    minutes, second = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def progress(step: int | None, total: int | None) -> str:
    """`1,200 of 4,000`; `1,200` while the total is unknown; empty before the first step."""
    if step is None:
        return ""
    return f"{step:,} of {total:,}" if total else f"{step:,}"


def figure(value: float | None) -> str:
    """`3.2140`: four decimals, and four significant digits outside of 0.001 to 10,000; empty for None."""
    if value is None:
        return ""
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e4 or value == 0 else f"{value:.4g}"


def count(number: float | None) -> str:
    """`1.23M`: three significant digits and the unit k, M, B or T; empty for None."""
    if number is None:
        return ""
    for unit, size in (("T", 1e12), ("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:g}"
