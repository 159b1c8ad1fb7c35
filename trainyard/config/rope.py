"""Changes of a model's rotary position embeddings: read in every spelling, and merged over the base's own values.

A base of transformers 5 has them in `rope_parameters`, an older one in `rope_scaling` beside `rope_theta`. A setting
may have either form; what it does not name stays the base's.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from trainyard.errors import did_you_mean

Values = dict[str, Any]

SPELLINGS = ("rope_parameters", "rope_scaling", "rope_theta")
"""Settings of model.config about rotary embeddings."""

_COMMON = ("rope_type", "rope_theta", "partial_rotary_factor")
_SCALED = ("original_max_position_embeddings",)

TYPES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "default": ((), ()),
    "linear": (("factor",), ()),
    "dynamic": (("factor",), _SCALED),
    "yarn": (
        ("factor",),
        (*_SCALED, "attention_factor", "beta_fast", "beta_slow", "mscale", "mscale_all_dim", "truncate"),
    ),
    "longrope": (("short_factor", "long_factor"), (*_SCALED, "attention_factor", "factor")),
    "llama3": (("factor", "low_freq_factor", "high_freq_factor"), _SCALED),
    "proportional": ((), ()),
}
"""The keys that each rope_type demands, and those that it takes beside them and _COMMON."""

_FROM_BASE = ("yarn", "longrope", "llama3")
"""Types that scale from the length with which the base was trained."""


def of_config(config: Mapping[str, Any]) -> Values:
    """The rotary parameters in a model's config.json, in the form of transformers 5; empty without any."""
    found = config.get("rope_parameters") or config.get("rope_scaling") or {}
    found = _renamed(found) if isinstance(found, dict) else {}
    if config.get("rope_theta") is not None and not is_nested(found):
        found.setdefault("rope_theta", config["rope_theta"])
    return found


def is_nested(parameters: Mapping[str, Any]) -> bool:
    """Has each type of layer parameters of its own?"""
    return any(isinstance(value, dict) for value in parameters.values())


def asked(settings: Mapping[str, Any]) -> Values:
    """What the settings of model.config ask for, in one mapping; empty when they say nothing of it."""
    found: Values = {}
    for name in SPELLINGS[:2]:
        if name in settings:
            found |= _renamed(settings[name]) if isinstance(settings[name], dict) else {"rope_type": "default"}
    if settings.get("rope_theta") is not None:
        found["rope_theta"] = settings["rope_theta"]
    return found


def merged(base: Values, given: Values, context: int | None) -> Values:
    """The base's parameters with the given ones over them.

    With another rope_type the base's theta, rotary share and length stay, and its keys of the old type go.

    Args:
        context: the length with which the base was trained, for the types that scale from it.
    """
    if is_nested(base):
        return {**base, **{name: merged(base[name] or {}, value, context) for name, value in given.items()}}
    kind = given.get("rope_type", base.get("rope_type", "default"))
    if kind != base.get("rope_type", "default"):
        gone = {key for keys in TYPES.values() for part in keys for key in part} - set(_SCALED)
        base = {key: value for key, value in base.items() if key not in gone}
    result = {**base, **given, "rope_type": kind}
    if kind in _FROM_BASE and context is not None:
        result.setdefault("original_max_position_embeddings", context)
    return result


def problems(settings: Mapping[str, Any], base: Values) -> Iterator[str]:
    """A message for each key that is unknown, missing, or said twice.

    Args:
        base: the model's own parameters, see of_config.
    """
    for name in SPELLINGS[:2]:
        value = settings.get(name)
        if value is not None and not isinstance(value, dict):
            yield f"model.config.{name}={value}: must be a mapping, as {{rope_type: yarn, factor: 4.0}}"
            return
        inner = (value or {}).get("rope_theta")
        if inner is not None and settings.get("rope_theta") not in (None, inner):
            yield f"model.config.rope_theta={settings['rope_theta']}: {name} has {inner}; give one of them"
    given = asked(settings)
    if not given:
        return
    if not is_nested(base):
        yield from _unfit(given, base, "")
        return
    layers = ", ".join(base)
    for name, value in given.items():
        if name not in base or not isinstance(value, dict):
            yield (
                f"model.config.rope_parameters.{name}={value}: the model has parameters for each of {layers}; name one,"
                f" as model.config.rope_parameters={{{next(iter(base))}: {{rope_theta: 1e6}}}}"
            )
        else:
            yield from _unfit(value, base[name] or {}, f".{name}")


def _unfit(given: Values, base: Values, place: str) -> Iterator[str]:
    """The messages for one mapping."""
    whole = merged(base, given, None)
    kind, where = whole["rope_type"], f"model.config.rope_parameters{place}"
    if kind not in TYPES:
        if kind != base.get("rope_type"):
            yield f"{where}.rope_type={kind}: must be one of {', '.join(TYPES)}"
        return
    demanded, taken = TYPES[kind]
    known = (*_COMMON, *demanded, *taken, *base)
    for key in given:
        if key not in known:
            hint = did_you_mean(key, known, f"There are: {', '.join(dict.fromkeys(known))}")
            yield f"{where}.{key}={given[key]}: rope_type={kind} has no such key. {hint}"
    for key in demanded:
        if key not in whole:
            yield f"{where}: rope_type={kind} needs {key}; add {key}: ..."


def _renamed(values: Mapping[str, Any]) -> Values:
    """`type`, the older name, becomes `rope_type`."""
    found = {("rope_type" if key == "type" else key): value for key, value in values.items()}
    return {key: _renamed(value) if isinstance(value, dict) else value for key, value in found.items()}
