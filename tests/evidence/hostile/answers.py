"""What a hostile or broken upstream may send in the place of its sales, and what the run is to make of it."""

import gzip
import json
from dataclasses import replace

from tests.evidence.hostile.bodies import (
    LOADED,
    MEBIBYTE,
    MILLION,
    RAW,
    REFUSED,
    REJECTED,
    SALE,
    TIMED_OUT,
    ZLIB,
    Hostile,
    body,
    bomb,
    endless,
    sale,
)

IN_TEXT = b'[{"id":1,"event_id":"e","note":"'
TOO_MANY = "an item of more than 300000 values"
TOO_LARGE, TOO_MUCH_BEFORE, TOO_MUCH_AFTER = "an item of more than", "no list of items in its first", "after its list"
UNASKED, BROKE_OFF, NO_JSON = "wasn't asked for", "the connection broke off", "isn't valid JSON, or is cut short"
HOSTILE = {
    "bomb: blanks, in a thousand members": Hostile(
        REFUSED,
        TOO_MUCH_BEFORE,
        lambda: body(gzip.compress(b" " * MEBIBYTE) * 1024, Content_Encoding="gzip"),
    ),
    "bomb: in a text": Hostile(REFUSED, TOO_LARGE, lambda: body(bomb(IN_TEXT, b"a"), Content_Encoding="gzip")),
    "bomb: between two items": Hostile(
        REFUSED, TOO_LARGE, lambda: body(bomb(b"[" + sale() + b",", b" "), Content_Encoding="gzip")
    ),
    "bomb: after the items": Hostile(
        REFUSED, TOO_MUCH_AFTER, lambda: body(bomb(b"[" + sale() + b"]", b" "), Content_Encoding="gzip")
    ),
    "bomb: numbers": Hostile(
        TIMED_OUT, "", lambda: body(bomb(b"[0", b",0"), Content_Encoding="gzip"), 3, rejected={"not_an_object": 1000}
    ),
    "bomb: sales": Hostile(TIMED_OUT, "", lambda: body(bomb(b"[" + sale(), b"," + sale()), Content_Encoding="gzip"), 3),
    "bomb: deflate": Hostile(REFUSED, UNASKED, lambda: body(bomb(IN_TEXT, b"a", ZLIB), Content_Encoding="deflate")),
    "bomb: deflate without a head": Hostile(
        REFUSED, UNASKED, lambda: body(bomb(IN_TEXT, b"a", RAW), Content_Encoding="deflate")
    ),
    "bomb: packed twice": Hostile(
        REFUSED, UNASKED, lambda: body(gzip.compress(b"".join(bomb(IN_TEXT, b"a"))), Content_Encoding="gzip, gzip")
    ),
    "bomb: packed five times": Hostile(
        REFUSED,
        UNASKED,
        lambda: body(
            gzip.compress(gzip.compress(gzip.compress(gzip.compress(b"".join(bomb(IN_TEXT, b"a")))))),
            Content_Encoding="gzip, gzip, gzip, gzip, gzip",
        ),
    ),
    "empty gzip without end": Hostile(
        TIMED_OUT, "", lambda: body(bomb(b"", b"", mebibytes=None), Content_Encoding="gzip"), 3
    ),
    "empty deflate without end": Hostile(
        REFUSED, UNASKED, lambda: body(bomb(b"", b"", ZLIB, None), Content_Encoding="deflate")
    ),
    "gzip with an endless name": Hostile(
        TIMED_OUT,
        "",
        lambda: body(b"\x1f\x8b\x08\x08" + bytes(5) + b"\xff", endless(b"a"), Content_Encoding="gzip"),
        3,
    ),
    "endless: sales": Hostile(TIMED_OUT, "", lambda: body(b"[" + sale(), endless(b"," + sale())), 3),
    "endless: blanks": Hostile(REFUSED, TOO_MUCH_BEFORE, lambda: body(endless(b" "))),
    "endless: text": Hostile(REFUSED, TOO_LARGE, lambda: body(IN_TEXT, endless(b"a"))),
    "endless: text of wide characters": Hostile(REFUSED, TOO_LARGE, lambda: body(IN_TEXT, endless("🎫".encode()))),
    "endless: number": Hostile(REFUSED, TOO_LARGE, lambda: body(b"[", endless(b"1"))),
    "endless: envelope": Hostile(REFUSED, TOO_MUCH_AFTER, lambda: body(b'{"data":[],"x":"', endless(b"a"))),
    "brackets: a million": Hostile(REFUSED, "nested too deeply", lambda: body(b"[" * MILLION)),
    "brackets: a million in an item": Hostile(
        REFUSED, "nested too deeply", lambda: body(b'[{"id":1,"x":' + b"[" * MILLION + b"]" * MILLION + b"}]")
    ),
    "brackets: a million before the items": Hostile(
        REFUSED, TOO_MUCH_BEFORE, lambda: body(b'{"x":' + b"[" * MILLION + b"]" * MILLION + b',"data":[]}')
    ),
    "braces: a million before the items": Hostile(REFUSED, TOO_MUCH_BEFORE, lambda: body(b'{"x":' * MILLION)),
    "brackets: a million after the items": Hostile(
        REFUSED, TOO_MUCH_AFTER, lambda: body(b'{"data":[],"x":' + b"[" * MILLION + b"]" * MILLION + b"}")
    ),
    "escapes: half a million before the items": Hostile(
        LOADED, "", lambda: body(b'{"x":"' + b"\\n" * (MILLION // 2 - 50) + b'","data":[' + sale() + b"]}")
    ),
    "keys: 100,000": Hostile(
        LOADED, "", lambda: body(json.dumps([SALE | {f"key-{n}": n for n in range(100_000)}]).encode())
    ),
    "keys: 100,000 of a record that can't be used": Hostile(
        LOADED,
        "",
        lambda: body(json.dumps([{f"key-{n}": n for n in range(100_000)}]).encode()),
        sales=0,
        rejected={"event_id_missing": 1},
    ),
    "keys: 50,000 that look like paging": Hostile(
        "incomplete_extract",
        "ticket_sales: `next-1: 1`, ",
        lambda: body(json.dumps({"data": [SALE], **{f"next-{n}": n for n in range(1, 50_000)}}).encode()),
    ),
    "event: 900 objects deep": Hostile(
        LOADED,
        "",
        lambda: body(b'[{"id":1,"event":' + b'{"event":' * 900 + b"1" + b"}" * 901 + b"]"),
        sales=0,
        rejected={"event_id_missing": 1},
    ),
    "event: a million objects deep": Hostile(
        REFUSED,
        "nested too deeply",
        lambda: body(b'[{"event":' + b'{"event":' * MILLION + b"1" + b"}" * MILLION),
    ),
    "objects: empty ones without end": Hostile(
        TIMED_OUT, "", lambda: body(b"[{}", endless(b",{}")), 3, rejected={"event_id_missing": 1000}
    ),
    "objects: half a million empty ones": Hostile(
        REJECTED,
        "event_id_missing: 500001",
        lambda: body(b"[{}" + b",{}" * (MILLION // 2) + b"]"),
        rejected={"event_id_missing": 1000},
    ),
    "objects: five million in an item": Hostile(
        REFUSED, TOO_MANY, lambda: body(b"[" + sale()[:-1] + b',"x":[{}', b",{}" * 5 * MILLION, b"]}]")
    ),
    "objects: a million in an item that isn't plain JSON": Hostile(
        REFUSED, TOO_MANY, lambda: body(b'[{"id":NaN,"x":[{}' + b",{}" * MILLION + b"]}]")
    ),
    "lists: a million in a quantity": Hostile(
        REFUSED, TOO_MANY, lambda: body(b"[" + sale()[:-1] + b',"quantity":[[]' + b",[]" * MILLION + b"]}]")
    ),
    "names: a hundred of 1 MB": Hostile(
        REJECTED,
        "event_name_too_long: 100",
        lambda: body(b"[", (b'{"id":%d,"name":"%b"},' % (n, b"x" * MEBIBYTE) for n in range(100)), b'{"id":"e"}]'),
        rejected={"event_name_too_long": 100},
        dataset="events",
    ),
    "ids: a hundred of 1 MB": Hostile(
        LOADED,
        "",
        lambda: body(b"[", (sale(id="x" * MEBIBYTE + str(n)) + b"," for n in range(100)), sale() + b"]"),
        sales=101,
    ),
    "event ids: a hundred of 1 MB": Hostile(
        REJECTED,
        "event_id_too_long: 100",
        lambda: body(
            b"[", (sale(id=n + 2, event_id="x" * MEBIBYTE + str(n)) + b"," for n in range(100)), sale() + b"]"
        ),
        rejected={"event_id_too_long": 100},
    ),
    "an error's body: bomb": Hostile(
        REFUSED,
        "the upstream answered 400",
        lambda: replace(body(bomb(b'{"message":"', b"a"), Content_Encoding="gzip"), status=400),
    ),
    "an error's body: endless": Hostile(
        REFUSED, "the upstream answered 404", lambda: replace(body(endless(b"<p>")), status=404)
    ),
    "HTML with 200": Hostile(
        REFUSED, "neither a JSON object nor an array", lambda: body(b"<!DOCTYPE html><h1>Sign in</h1>[{}]")
    ),
    "header: 1 MB": Hostile(REFUSED, "", lambda: body(b"[" + sale() + b"]", X_Long="x" * MEBIBYTE)),
    "headers: 10,000": Hostile(
        REFUSED, "", lambda: body(b"[" + sale() + b"]", **{f"X_{number}": "x" for number in range(10_000)})
    ),
    "header: a Link of 60,000 blanks": Hostile(
        LOADED, "", lambda: body(b"[" + sale() + b"]", Link="<a>;x" + " " * 60_000)
    ),
    **{
        f"header: to retry after {word}": Hostile(
            REFUSED,
            words,
            lambda value=value: replace(body(b"", Retry_After=value), status=503),  # type: ignore[misc]
        )
        for word, words, value in (
            ("60,000 digits of seconds", "asks to wait", "9" * 60_000),
            ("a year that no calendar has", "tried 3 times", "Mon, 01 Jan 99999999999 00:00:00 GMT"),
            ("an offset that no clock has", "tried 3 times", "Mon, 01 Jan 2027 00:00:00 +99999999999999"),
        )
    },
    **{
        f"paging: {key} of 390 digits": Hostile(
            "incomplete_extract",
            "",
            lambda key=key: body(b'{"page":1,"data":[%b],"%b":%b}' % (sale(), key.encode(), b"9" * 390)),  # type: ignore[misc]
        )
        for key in ("total", "totalPages", "next_page")
    },
    "paging: a cursor of 900 KB": Hostile(
        REFUSED, "414", lambda: body(b'{"data":[' + sale() + b'],"next_cursor":"' + b"x" * 900_000 + b'"}')
    ),
    "Content-Length: too large": Hostile(REFUSED, BROKE_OFF, lambda: body(b"[" + sale() + b"]", Content_Length="9999")),
    "Content-Length: too small": Hostile(REFUSED, NO_JSON, lambda: body(b"[" + sale() + b"]", Content_Length="9")),
    "Content-Length: 0": Hostile(REFUSED, NO_JSON, lambda: body(b"[" + sale() + b"]", Content_Length="0")),
    "Content-Length: negative": Hostile(LOADED, "", lambda: body(b"[" + sale() + b"]", Content_Length="-1")),
    "Content-Length: two": Hostile(REFUSED, "", lambda: body(b"[" + sale() + b"]", Content_Length="9, 5")),
    "chunks: a size that is none": Hostile(
        REFUSED, BROKE_OFF, lambda: body(b"xyz\r\n[]\r\n0\r\n\r\n", Transfer_Encoding="chunked")
    ),
    "charset: UTF-16": Hostile(
        REFUSED, "neither a JSON object nor an array", lambda: body(json.dumps([SALE]).encode("utf-16"))
    ),
    "charset: UTF-16 without a mark": Hostile(REFUSED, "", lambda: body(json.dumps([SALE]).encode("utf-16-le"))),
    "charset: UTF-8 with a mark": Hostile(LOADED, "", lambda: body(b"\xef\xbb\xbf[" + sale() + b"]")),
    "charset: UTF-7, says the header": Hostile(
        LOADED, "", lambda: body(b"[" + sale() + b"]", Content_Type="application/json; charset=utf-7")
    ),
    "charset: Latin-1 in a field that isn't read": Hostile(
        LOADED, "", lambda: body(b"[" + sale(note="@").replace(b"@", b"\xe9") + b"]")
    ),
    "charset: overlong slash in the event's id": Hostile(
        LOADED,
        "",
        lambda: body(b"[" + sale(event_id="@").replace(b"@", b"\xc0\xaf") + b"]"),
        sales=0,
        rejected={"event_id_not_text": 1},
    ),
    **{
        f"a quantity of {word}": Hostile(
            LOADED,
            "",
            lambda word=word: body(b"[" + sale(quantity=float(word)) + b"]"),  # type: ignore[misc]
            sales=0,
            rejected={"quantity_not_a_whole_number": 1},
        )
        for word in ("Infinity", "-Infinity", "NaN")
    },
    "a quantity of a million digits": Hostile(
        LOADED,
        "",
        lambda: body(b"[" + sale(quantity=0)[:-1] + b',"quantity":' + b"9" * MILLION + b"}]"),
        sales=0,
        rejected={"quantity_not_a_whole_number": 1},
    ),
    "a price of a million digits": Hostile(
        LOADED,
        "",
        lambda: body(b"[" + sale()[:-1] + b',"price":0.' + b"9" * MILLION + b"}]"),
        sales=0,
        rejected={"price_not_a_number": 1},
    ),
    "an id of a million digits": Hostile(
        LOADED, "", lambda: body(b"[" + sale()[:-1] + b',"id":' + b"9" * MILLION + b"}]")
    ),
    "keys that come twice": Hostile(
        LOADED, "", lambda: body(b"[" + b",".join([sale()[:-1] + b',"id":%d,"id":2}' % n for n in [7] * 9]) + b"]")
    ),
}
"""By name."""
