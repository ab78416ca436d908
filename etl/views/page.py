"""The report page: figures to one HTML document that needs nothing else. Pure, apart from reading its own templates."""

from __future__ import annotations

import base64
import hashlib
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, Template
from markupsafe import Markup, escape

from etl.errors import remedies
from etl.load.store import STORE_NAMES
from etl.run.ledger import Run
from etl.views.figures import RANGES, Figures, judge
from etl.views.text import moment_text, sentence, shown_amount

HERE = Path(__file__).parent
_STYLES = ("uplot.min.css", "report.css")
_SCRIPTS = ("uplot.min.js", "report.js")
_BAR_STEPS = 20


def format_page(figures: Figures) -> str:
    """The document. Every text is escaped; times are UTC, amounts in the upstream's own currency."""
    runs = figures.last_runs
    longest = max((run.duration_seconds or 0.0 for run in runs), default=0.0)
    return _template().render(
        figures=figures,
        runs=runs,
        verdict=judge(figures),
        published=figures.shown,
        store_names=STORE_NAMES,
        remedies=remedies(),
        ranges=RANGES,
        bar_height=lambda run: _bar_height(run, longest),
        styles=[_inline(name) for name in _STYLES],
        scripts=[_inline(name) for name in _SCRIPTS],
    )


@cache
def content_security_policy() -> str:
    """Nothing but the page's own styles and scripts, each by its hash; no request goes anywhere."""
    styles = " ".join(_hash(_inline(name)) for name in _STYLES)
    scripts = " ".join(_hash(_inline(name)) for name in _SCRIPTS)
    return (
        f"default-src 'none'; style-src {styles}; script-src {scripts}; img-src data:;"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


@cache
def _inline(name: str) -> Markup:
    return Markup((HERE / "static" / name).read_text())  # noqa: S704 - a file of our own


@cache
def _template() -> Template:
    environment = Environment(loader=FileSystemLoader(HERE), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(
        amount=shown_amount,
        count=_count,
        moment=_moment,
        iso=datetime.isoformat,
        code=_code,
        seconds=_seconds,
        sentence=sentence,
    )
    return environment.get_template("report.html")


def _bar_height(run: Run, longest: float) -> int:
    """In steps of a twentieth of the longest; 1 at least, so that there is something to point at."""
    return max(1, round(_BAR_STEPS * (run.duration_seconds or 0.0) / longest)) if longest else 1


def _count(value: int) -> str:
    return f"{value:,}"


def _moment(value: datetime | None) -> str:
    return "" if value is None else moment_text(value)


def _seconds(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.1f} s" if value < 120 else str(timedelta(seconds=round(value)))


def _code(text: str) -> Markup:
    """A text whose parts in backticks are code."""
    parts = str(escape(text)).split("`")
    return Markup("".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts)))  # noqa: S704 - escaped
