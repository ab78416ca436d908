"""Whole runs in this process, as an environment says."""

from collections.abc import Mapping
from typing import Any

import pytest

from etl import run_etl_once
from etl.errors import EtlError
from etl.run.pipeline import RunOptions
from etl.run.report import RunReport
from etl.settings import Settings


def run(env: Mapping[str, str], **options: Any) -> RunReport:
    """The report of a run that succeeds."""
    return run_etl_once(Settings.from_env(env), RunOptions(**options))


def refused(env: Mapping[str, str], code: str, **options: Any) -> EtlError:
    """The error of a run that fails."""
    with pytest.raises(EtlError) as caught:
        run(env, **options)
    assert caught.value.code == code, caught.value
    return caught.value
