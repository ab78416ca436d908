"""The parts that `make run` and `make serve` start where the environment names none."""

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime

from tests.doubles.bigquery import BigQueryEmulator
from tests.doubles.bigquery_front import BigQueryFront
from tests.doubles.postgres import EmbeddedPostgres
from tests.doubles.processes import SandboxError
from tests.doubles.ticketing.api import TicketingApi
from tests.doubles.ticketing.sample_data import sample_events, sample_sales

Tell = Callable[[str, str, float | None], None]
"""(step, what came of it, seconds): shows a line."""


@dataclass(frozen=True)
class Part:
    """`settings`: any of these in the environment means that the user brings this part. `start` gives the rest."""

    name: str
    settings: tuple[str, ...]
    start: Callable[[ExitStack], dict[str, str]]


def _ticketing_api(stack: ExitStack) -> dict[str, str]:
    sales = sample_sales(1, datetime.now(UTC).date())
    api = stack.enter_context(TicketingApi(sample_events(1), sales, envelope="veritix:wrapped", page_size=100))
    api.keep_items = False
    return {"NEST_API_BASE_URL": api.base_url}


def _postgres(stack: ExitStack) -> dict[str, str]:
    server = stack.enter_context(EmbeddedPostgres())
    server.create_role("veritix", "sandbox")
    return {"DATABASE_URL": server.tcp_url(server.create_database("veritix", owner="veritix"), "veritix", "sandbox")}


def _bigquery(stack: ExitStack) -> dict[str, str]:
    emulator = stack.enter_context(BigQueryEmulator())
    front = stack.enter_context(BigQueryFront(emulator.url))  # kept sales need what the emulator lacks
    front.keeps_log = False
    return {"BIGQUERY_EMULATOR_HOST": front.url, "BQ_ENABLED": "true", "BQ_PROJECT_ID": "veritix-sandbox"}


PARTS = (
    Part("Ticketing API", ("NEST_API_BASE_URL",), _ticketing_api),
    Part("PostgreSQL", ("DATABASE_URL", "INSTANCE_CONNECTION_NAME"), _postgres),
    Part("BigQuery", ("BQ_ENABLED", "BQ_PROJECT_ID", "BIGQUERY_EMULATOR_HOST"), _bigquery),
)


def start_parts(stack: ExitStack, env: Mapping[str, str], tell: Tell) -> dict[str, str]:
    """Starts what `env` doesn't name, for as long as `stack` lasts. Returns the settings that lead there."""
    settings: dict[str, str] = {}
    for part in PARTS:
        given = [name for name in part.settings if env.get(name)]
        if given:
            tell(part.name, f"not started: the environment sets {' and '.join(given)}", None)
            continue
        started = time.monotonic()
        try:
            own = part.start(stack)
        except (SandboxError, OSError) as error:
            raise SandboxError(f"{part.name} could not be started: {error}") from error
        tell(part.name, next(iter(own.values())), time.monotonic() - started)
        settings |= own
    return settings
