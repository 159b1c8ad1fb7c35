"""What a store holds, in numbers: for the last line of `prepare`, and for its table."""

from typing import Any

import numpy as np

from trainyard.data.preparation.notes import lines
from trainyard.data.preparation.request import DataRequest, Prepared
from trainyard.data.sequences import plans
from trainyard.data.store import TokenStore


def summarize(prepared: Prepared, request: DataRequest) -> dict[str, Any]:
    """The statistics of a store under its plan, as `trainyard prepare` prints them."""
    store = TokenStore(prepared.store)
    made = plans.open_plans(store, request.data, request.seed)
    on_disk = sum(file.stat().st_size for file in prepared.store.iterdir() if file.is_file())
    conversations = {}
    if store.masked:
        both = (made.train, made.held_out)
        conversations = {
            "learned_tokens": store.summary.learned_tokens,
            "cut": sum(plan.shortened for plan in both),
            "dropped": sum(plan.dropped for plan in both),
        }
    return {
        "prepared": str(prepared.store),
        "documents": len(store),
        "tokens": store.num_tokens,
        "sequences": len(made.train),
        "fill": round(made.train.fill, 6),
        "held_out": len(plans.split_documents(store.hashes, request.data.eval_fraction)[1]),
        "tail": made.train.tail,
        "bytes_per_token": round(on_disk / max(1, store.num_tokens), 4),
        "empty": sum(source.empty for source in store.summary.sources),
        "notes": lines(request.data.sources, store.summary.sources),
        **{key: getattr(store.summary, key) for key in ("rejected", "tokenizer_backend", "seconds", "mb_per_s")},
        **conversations,
    }


def histogram(prepared: Prepared) -> list[tuple[int, int]]:
    """Tokens per document as (upper bound, documents) with bounds that double: (2, 1) is one document of 1 or 2."""
    lengths = np.asarray(TokenStore(prepared.store).lengths, dtype=np.int64)
    exponents = np.ceil(np.log2(np.maximum(lengths, 1))).astype(np.int64)
    counts = np.bincount(exponents)
    return [(1 << exponent, int(counts[exponent])) for exponent in range(int(exponents.min()), len(counts))]
