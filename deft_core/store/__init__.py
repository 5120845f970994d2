"""The store of a workspace: one DuckDB file. Only this package has SQL."""

from deft_core.store.queries import (
    SAMPLE_IDS,
    Dataset,
    ImportedRun,
    Sample,
    Store,
    unknown_samples,
    utc_now,
)

__all__ = ["SAMPLE_IDS", "Dataset", "ImportedRun", "Sample", "Store", "unknown_samples", "utc_now"]
