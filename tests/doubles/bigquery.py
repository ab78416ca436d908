"""The BigQuery emulator `bqemulator` as a process: it speaks BigQuery's REST API to the real client."""

import os
import sys
import tempfile
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from tests.doubles.processes import STATE, Process, answers, delete, free_port

if TYPE_CHECKING:
    from google.cloud.bigquery import Client

_LAUNCH = Path(__file__).with_name("bigquery_launch.py")


class BigQueryEmulator:
    """Empty at the start, kept in memory. Takes any project; up in 1.5 s, the first time ever in 3 s."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="veritix-bq-"))
        self._port = free_port()
        self._process: Process | None = None

    def __enter__(self) -> Self:
        home = STATE / "duckdb"
        home.mkdir(parents=True, exist_ok=True)
        settings = {
            "HOME": str(home),
            "BQEMU_UPLOAD_STAGING_DIR": str(self.directory),
            "BQEMU_ENABLE_FORMAT_EXTENSIONS": "false",  # it would look for them on the network
            "BQEMU_LOG_LEVEL": "warning",
        }
        ports = ["--rest-port", str(self._port), "--grpc-port", "0"]
        try:
            self._process = Process(
                "The BigQuery emulator",
                [sys.executable, _LAUNCH, "start", "--ephemeral", *ports],
                log=self.directory / "log",
                cwd=self.directory,
                env={**os.environ, **settings},
                litter=self.directory,
            )
            self._process.wait_until(lambda: answers(f"{self.url}/healthz"))
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        if self._process is not None:
            self._process.stop()
        delete(self.directory)

    @property
    def url(self) -> str:
        """For BIGQUERY_EMULATOR_HOST, or a client's `api_endpoint`."""
        return f"http://127.0.0.1:{self._port}"

    def client(self, project: str) -> "Client":
        """A real client, with anonymous credentials. The caller closes it."""
        from google.auth.credentials import AnonymousCredentials
        from google.cloud.bigquery import Client

        return Client(
            project,
            credentials=AnonymousCredentials(),  # type: ignore[no-untyped-call]
            client_options={"api_endpoint": self.url},
        )
