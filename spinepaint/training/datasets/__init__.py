"""Annotated data sets, each brought to one manifest of cases."""

from spinepaint.training.datasets.manifest import Case, LeakageError, read_manifest, write_manifest
from spinepaint.training.datasets.rsna import rsna_cases
from spinepaint.training.datasets.spider_volumes import spider_cases
from spinepaint.training.datasets.table import table_cases
from spinepaint.training.datasets.volumes import open_volume

__all__ = ["Case", "LeakageError", "open_volume", "read_manifest", "rsna_cases", "spider_cases", "table_cases", "write_manifest"]
