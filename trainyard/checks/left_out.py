"""Conversations that a plan leaves out, as they are too long: refused above data.max_dropped, warned of above 1%."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from trainyard.checks import model_facts
from trainyard.config.schema import Config
from trainyard.data.sequences import plans
from trainyard.data.store import TokenStore

WARNED_ABOVE = 0.01
"""Share of the conversations."""

KEPT = 0.999
"""Share of the conversations that the suggested block size takes as they are."""

WHY = {"drop": "are longer than", "answer": "have nothing to learn in the first"}
"""Why a conversation is left out, by data.truncation; otherwise not one exchange of it fits."""


def problem(config: Config) -> Iterator[str]:
    """A message if more conversations of the prepared data are left out than data.max_dropped allows."""
    share, told = _told(config)
    if share > config.data.max_dropped:
        yield f"data.max_dropped={config.data.max_dropped:g}: {told}, or allow it by data.max_dropped={_above(share)}"


def warning(config: Config) -> Iterator[str]:
    """The same as a warning, above WARNED_ABOVE."""
    share, told = _told(config)
    if share > WARNED_ABOVE:
        yield f"warning: {told}"


def _told(config: Config) -> tuple[float, str]:
    """The share of the conversations that are left out, and the sentence that says so with what keeps them."""
    data = config.data
    store = TokenStore(Path(str(data.prepared)))
    opened = plans.open_plans(store, data, config.run.seed)
    found = plans.left_out([opened.train, opened.held_out], store)
    if not found.dropped:
        return 0.0, ""
    why = WHY.get(data.truncation, "have no exchange that fits into")
    fix = _keeps(config, store)
    return found.share_dropped, (
        f"{found.dropped:,} of {found.documents:,} conversations ({found.share_dropped:.1%}) are left out, as they "
        f"{why} data.block_size={data.block_size} tokens; {fix}"
    )


def _keeps(config: Config, store: TokenStore) -> str:
    """The settings that would keep the conversations."""
    longest = int(np.quantile(np.asarray(store.lengths), KEPT, method="higher"))
    wanted, context = -(-longest // 64) * 64, model_facts.context(model_facts.architecture(config.model))
    splits = "data.truncation=split keeps all in several sequences"
    if context is not None and wanted > context:
        return f"the model's context is {context:,} tokens, and 99.9% of them need {wanted}; {splits}"
    return f"data.block_size={wanted} keeps 99.9% whole, {splits}"


def _above(share: float) -> str:
    """A share that is not below this one, in two digits: 0.903 becomes 0.91."""
    return f"{min(1.0, np.ceil(share * 100) / 100):g}"
