"""Numbers, amounts, days and texts, each from the JSON value that was sent. Pure."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal

DECIMALS = 9
NANO = 10**DECIMALS
"""Amounts are whole numbers of 10^-9, the stores' scale: exact, and quick to add."""
AMOUNT_LIMIT = 10**29 * NANO
INT64_LIMIT = 2**63
_NUMBER = re.compile(r"[+-]?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,9})?")
POWERS: tuple[int, ...] = tuple(10 ** (DECIMALS - decimals) for decimals in range(DECIMALS + 1))
"""By how many decimals an amount was written with: what its digits are to be multiplied by."""
_NUMBER_LENGTH = 400
_EXACT = Context(prec=_NUMBER_LENGTH + 50, rounding=ROUND_HALF_EVEN)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def from_nano(nano: int) -> Decimal:
    """A whole number of 10^-9 as the exact Decimal it stands for."""
    return Decimal(nano).scaleb(-9, _EXACT)


def read_number(value: object) -> Decimal | None:
    """The exact number that a JSON number (int or text) or a numeric string stands for, else None.

    A numeric string is what JSON allows for a number, plus a leading `+`. Booleans are no numbers, and neither
    is a text of more than 400 characters.
    """
    if type(value) is int:
        return Decimal(value)
    if isinstance(value, str) and len(value) <= _NUMBER_LENGTH and _NUMBER.fullmatch(value):
        return Decimal(value)
    return None


def read_amount(value: object) -> int | None:
    """An amount as a whole number of 10^-9, rounded half-even; None where it isn't one, or is 10^29 or more."""
    if type(value) is str and (plain := _plain_amount(value)) is not None:
        return plain
    number = read_number(value)
    if not number:
        return None if number is None else 0
    if not -12 < number.adjusted() < 30:
        return 0 if number.adjusted() < 0 else None
    nano = int(number.scaleb(9, _EXACT).to_integral_value(ROUND_HALF_EVEN, _EXACT))
    return nano if abs(nano) < AMOUNT_LIMIT else None


def _plain_amount(text: str) -> int | None:
    """The usual amount, such as 12.50, a few times quicker than through Decimal; None for any other text."""
    whole, point, fraction = text.partition(".")
    digits = whole + fraction
    if not (digits.isdigit() and digits.isascii()) or len(whole) > 20 or len(fraction) > DECIMALS:
        return None
    if not whole or (point and not fraction) or (whole[0] == "0" and whole != "0"):
        return None  # no number in JSON
    return int(digits) * POWERS[len(fraction)]


def read_quantity(value: object) -> int | None:
    """A whole number within int64 (`2.0` and `1e2` are whole), else None."""
    if type(value) is int:
        quantity = value
    else:
        number = read_number(value)
        if not number:
            return None if number is None else 0
        if number.adjusted() > 19 or number != number.to_integral_value():
            return None
        quantity = int(number)
    return quantity if -INT64_LIMIT <= quantity < INT64_LIMIT else None


def read_day(value: object, zone: tzinfo) -> date | None:
    """The day in `zone` of an ISO 8601 date or time (naive: UTC), or of a Unix time; None where it is neither.

    A bare date is that day in any zone. A number, or its text, is a Unix time: in seconds, from 1e11 in
    milliseconds, from 1e14 in microseconds, from 1e17 in nanoseconds (absolute values). Only a text of exactly
    8 digits is a date (`20260131`): longer ones would pass for ISO 8601 too, centuries off.
    """
    try:
        if isinstance(value, str) and not _NUMBER.fullmatch(value):
            return _iso_day(value, zone)
        if type(value) is str and len(value) == 8 and value.isdigit() and (day := _iso_day(value, zone)):
            return day
        return _unix_day(value, zone)
    except OverflowError:
        return None


def read_moment(value: object) -> datetime | None:
    """The moment, in UTC, that an ISO 8601 time (naive: UTC; a bare date: its midnight) or a Unix time stands for.

    None where it is neither. Unix times are told apart as in `read_day`, and cut to microseconds.
    """
    try:
        if isinstance(value, str) and not _NUMBER.fullmatch(value):
            moment = _iso_moment(value)
            return None if moment is None else moment.astimezone(UTC)
        return _unix_moment(value)
    except OverflowError:
        return None


def _iso_day(text: str, zone: tzinfo) -> date | None:
    if len(text) <= 10 and (day := _bare_day(text)):
        return day
    moment = _iso_moment(text)
    return None if moment is None else moment.astimezone(zone).date()


def _iso_moment(text: str) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment


def _bare_day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _unix_day(value: object, zone: tzinfo) -> date | None:
    moment = _unix_moment(value)
    return None if moment is None else moment.astimezone(zone).date()


def _unix_moment(value: object) -> datetime | None:
    number = read_number(value)
    if number is None or number.adjusted() > 20:
        return None
    size = number.copy_abs()
    unit = 9 if size >= 10**17 else 6 if size >= 10**14 else 3 if size >= 10**11 else 0
    microseconds = int(number.scaleb(6 - unit, _EXACT).to_integral_value(ROUND_FLOOR, _EXACT))
    return _EPOCH + timedelta(microseconds=microseconds)


def is_storable(text: str) -> bool:
    """Whether both stores can hold a text: no NUL (PostgreSQL refuses it), no lone surrogate (not UTF-8)."""
    if "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
