"""The upstream itself: every fault that the sample API knows, in every phase of the reading."""

import re
from collections.abc import Callable
from typing import Any

from tests.doubles.moments import UPSTREAM
from tests.doubles.ticketing.envelope_table import ENVELOPES
from tests.doubles.ticketing.faults import Fault
from tests.evidence.faults.kind import Kind
from tests.evidence.faults.play import Play

_EVERY = {"upstream": tuple(UPSTREAM)}
_BETWEEN = {"upstream": tuple(name for name in UPSTREAM if not name.endswith("last"))}
_LISTS = {"events": "events", "sales": "ticket_sales"}
Options = dict[str, Any]
_KNOBS: dict[str, tuple[Options, ...]] = {
    "api-refuses": tuple({"kind": "status", "status": status} for status in (400, 401, 403, 404)),
    "api-throttles": (
        {"kind": "status", "status": 429, "headers": {"Retry-After-short": "1"}},
        {"kind": "status", "status": 429, "headers": {"Retry-After": "3600"}},
    ),
    "api-fails": (
        {"kind": "status", "status": 500},
        {"kind": "status", "status": 502, "body": b"<html>Bad Gateway</html>"},
        {"kind": "status", "status": 503, "headers": {"Retry-After": "0"}},
    ),
    "redirect": ({"kind": "redirect"}, {"kind": "redirect", "location": "ELSEWHERE"}),
    "broken-page": tuple({"kind": kind} for kind in ("not_json", "wrong_shape", "html", "truncated_json")),
    "api-cuts": ({"kind": "cut"}, {"kind": "cut_chunked"}),
    "api-breaks": ({"kind": "close", "after_bytes": 100}, {"kind": "reset", "after_bytes": 100}),
    "api-hangs": ({"kind": "hang"}, {"kind": "hang", "after_bytes": 300}, {"kind": "delay", "seconds": 1.6}),
    "api-is-slow": (
        {"kind": "delay", "seconds": 0.4},
        {"kind": "drip", "seconds": 0.05, "piece_bytes": 512},
        {"kind": "chunked"},
    ),
    "empty-page": ({"kind": "empty_page"},),
    "never-ending": ({"kind": "never_ending"},),
    "pages-repeat": ({"kind": "repeat_page"}, {"kind": "stuck_page"}),
    "total-lies": ({"kind": "show", "show": {"total": 100_000}}, {"kind": "show", "show": {"total": 3}}),
}
_LINKS: dict[str, tuple[Options, ...]] = {
    "next-loops": ({"kind": "next_same"}, {"kind": "next_back"}, {"kind": "show", "show": {"shown_next": -1}}),
    "next-elsewhere": ({"kind": "show", "show": {"shown_next": "ELSEWHERE"}},),
}
"""Of an upstream that names its next page."""


def _knob(choices: tuple[Options, ...], envelope: str | None = None) -> Callable[[Play], None]:
    def arm(play: Play) -> None:
        upstream = play.bench.bed.upstream
        if envelope is not None:
            for dataset in upstream.datasets.values():
                dataset.envelope = ENVELOPES[envelope].sized(dataset.envelope.default_limit)
        name = _LISTS[play.scenario.when.split("-")[0]]
        times, options = play.dice.choice([1, 2, None]), play.dice.choice(choices)
        upstream.faults.append(Fault(**_with(options, play), dataset=name, page=_page(play), times=times))
        play.is_met = lambda: any(request.fault for request in upstream.requests)

    return arm


def _with(options: Options, play: Play) -> Options:
    """The options, with the address of somebody who must not see the token."""
    url = play.bench.elsewhere.url + "/ticket-sales"
    shown = {name: url if value == "ELSEWHERE" else value for name, value in options.get("show", {}).items()}
    located = {"location": url} if options.get("location") == "ELSEWHERE" else {}
    return {**options, **located, **({"show": shown} if shown else {})}


def _page(play: Play) -> int:
    number = re.search(r"page=(\d+)", play.moment.pattern)
    return int(number[1]) if number else 1


API: dict[str, Kind] = {
    **{name: Kind(_knob(choices), _EVERY, harmless=name == "api-is-slow") for name, choices in _KNOBS.items()},
    **{name: Kind(_knob(choices, "next_page"), _BETWEEN) for name, choices in _LINKS.items()},
}
