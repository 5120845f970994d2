"""The store of a workspace: one DuckDB file and its journal. Only this package has SQL."""

from deft_core.store.database import utc_now
from deft_core.store.log import journal_path, unknown_samples
from deft_core.store.queue import FILTER_NAMES, SORT_NAMES, Filter, Sort
from deft_core.store.schema import BACKUPS
from deft_core.store.store import SAMPLE_IDS, Dataset, ImportedRun, Sample, Store, Verification

__all__ = [
    "BACKUPS",
    "FILTER_NAMES",
    "SAMPLE_IDS",
    "SORT_NAMES",
    "Dataset",
    "Filter",
    "ImportedRun",
    "Sample",
    "Sort",
    "Store",
    "Verification",
    "journal_path",
    "unknown_samples",
    "utc_now",
]
