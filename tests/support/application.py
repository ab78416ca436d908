"""The function in this process, through the framework's own application."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import flask.testing
import functions_framework
import pytest

from etl.settings import NAMES
from tests import ROOT

MAIN = ROOT / "main.py"


@contextmanager
def application_client() -> Iterator[flask.testing.FlaskClient]:
    """A client of the function without any setting; the log's handlers and level are put back at the end."""
    with pytest.MonkeyPatch.context() as patch:
        for name in NAMES:
            patch.delenv(name, raising=False)
        handlers, level = list(logging.root.handlers), logging.root.level
        application: flask.Flask = functions_framework.create_app("run_etl", str(MAIN), "http")  # type: ignore[no-untyped-call] # has no types
        try:
            with application.test_client() as client:
                yield client
        finally:
            logging.root.handlers[:] = handlers
            logging.root.setLevel(level)
