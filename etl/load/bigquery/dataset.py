"""One dataset during one run: its tables are found, made, filled and dropped here."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import IO, TYPE_CHECKING, Any

from etl.deadline import Deadline
from etl.errors import ConfigurationError
from etl.load.bigquery.client import Jobs, client_for, tidy_up
from etl.load.bigquery.tables import Definition, define_table, expirations, keep_statement
from etl.settings import Settings

if TYPE_CHECKING:
    from google.cloud.bigquery import Table as BigQueryTable

STAGING = "etl_staging_"
STAGING_HOURS = 6


class Dataset:
    """The dataset that the settings name. What is staged has the run's id in its name, and expires."""

    def __init__(self, settings: Settings, deadline: Deadline, run_id: str) -> None:
        self.client = client_for(settings)
        self.jobs = Jobs(self.client, deadline, run_id)
        self.path = f"{settings.bq_project_id}.{settings.bq_dataset}"
        self._settings = settings
        self._run_id = run_id

    @property
    def bounds(self) -> dict[str, Any]:
        """For a call of the client's."""
        return {"retry": self.jobs.retry(), "timeout": self.jobs.bound()}

    def table_path(self, name: str) -> str:
        """Where a table stands."""
        return f"{self.path}.{name}"

    def staging_name(self, name: str) -> str:
        """What the staging of a table is called in this run."""
        return f"{STAGING}{name}_{self._run_id.replace('-', '_')}"

    def find_table(self, name: str) -> BigQueryTable | None:
        """A table; None where there is none. Raises ConfigurationError where the dataset is in another location."""
        from google.api_core.exceptions import NotFound

        with suppress(NotFound):
            table = self.client.get_table(self.table_path(name), **self.bounds)
            if table.location and table.location.upper() != self._settings.bq_location.upper():
                raise ConfigurationError(
                    f"BQ_LOCATION is {self._settings.bq_location}, and the dataset {self.path} is in {table.location}: "
                    f"write BQ_LOCATION={table.location}, or name another dataset"
                )
            return table
        return None

    def create_table(self, name: str, definition: Definition) -> BigQueryTable:
        """Create a table that stays, and the dataset where that is missing."""
        from google.api_core.exceptions import NotFound
        from google.cloud.bigquery import Dataset as BigQueryDataset

        try:
            self.client.get_dataset(self.path, **self.bounds)
        except NotFound:
            dataset = BigQueryDataset(self.path)
            dataset.location = self._settings.bq_location
            self.client.create_dataset(dataset, exists_ok=True, **self.bounds)
        path = self.table_path(name)
        table = define_table(path, definition, self._settings.bq_partition_by)
        made = self.client.create_table(table, exists_ok=True, **self.bounds)
        if options := expirations(made):  # the dataset's defaults, which a definition can't refuse
            self.jobs.query(keep_statement(path, options), step=f"keep-{name}")
        return made

    def stage_table(self, name: str, definition: Definition) -> BigQueryTable:
        """Create a table that expires."""
        table = define_table(self.table_path(name), definition)
        table.expires = datetime.now(UTC) + timedelta(hours=STAGING_HOURS)
        return self.client.create_table(table, exists_ok=True, **self.bounds)

    def load(self, table: BigQueryTable, body: IO[bytes], step: str, *, append: bool = False) -> None:
        """A load job of lines of JSON into a table, in place of its rows or added to them."""
        from google.cloud.bigquery import LoadJobConfig

        config = LoadJobConfig(
            source_format="NEWLINE_DELIMITED_JSON",
            write_disposition="WRITE_APPEND" if append else "WRITE_TRUNCATE",
            schema=table.schema,
        )
        self.jobs.load(
            lambda job_id: self.client.load_table_from_file(
                body,
                table.reference,
                rewind=True,
                num_retries=0,  # those aren't bounded by a time: `Jobs.load` tries again
                job_id=job_id,
                job_config=config,
                timeout=self.jobs.bound(),
            ),
            step=step,
        )

    def drop_staging(self, *names: str) -> None:
        """Best effort: what isn't dropped here expires. Where one call fails, the next would only cost more time."""

        def drop() -> None:
            for name in names:
                self.client.delete_table(self.table_path(name), not_found_ok=True, **self.jobs.brief())

        tidy_up("BigQuery staging left to expire", drop, table=", ".join(map(self.table_path, names)))
