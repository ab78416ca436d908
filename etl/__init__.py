"""Veritix ETL: events and ticket sales from an upstream API into two summary tables. These are its public names."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from etl.extract.reading import extract_events_and_sales as extract_events_and_sales
    from etl.load.bigquery.load import load_bigquery as load_bigquery
    from etl.load.postgres.load import load_postgres as load_postgres
    from etl.records.fields import EventRecord as EventRecord
    from etl.records.fields import TicketSaleRecord as TicketSaleRecord
    from etl.run.pipeline import run_etl_once as run_etl_once
    from etl.transform.fold import transform_summary as transform_summary

_MODULES = {
    "run_etl_once": "etl.run.pipeline",
    "extract_events_and_sales": "etl.extract.reading",
    "transform_summary": "etl.transform.fold",
    "load_postgres": "etl.load.postgres.load",
    "load_bigquery": "etl.load.bigquery.load",
    "EventRecord": "etl.records.fields",
    "TicketSaleRecord": "etl.records.fields",
}
__all__ = list(_MODULES)


def __getattr__(name: str) -> object:
    # On first use: importing the package must not import what a run may not need.
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)
