"""The statements of kept sales in BigQuery, made from their tables. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date

from etl.load.bigquery.sql import MAX_DAYS_A_JOB, last_name, on_any_day
from etl.sales.bigquery.tables import CHANGES, GROUPS, STAGED, SWEPT, TICKET_SALES, TOTALS, Names
from etl.sales.kept import COMPARED, COUNTED
from etl.transform.tables import DAILY_TICKET_SALES

FENCE = "etl fence"
"""What a script says that finds the state moved on by another run."""
CHECK = "etl check"
"""What a script says after which the published tables wouldn't hold what they should."""
MAX_LISTED_DAYS = 400
"""So many days are listed; more are given by the first and the last: a query may have 1 MB."""
_STATE = "sales"
_ANY_DAY = f"TRUE{on_any_day(DAILY_TICKET_SALES)}"


def on_days(days: Sequence[date], column: str = "sale_date") -> str:
    """A filter over a partition column by constants alone: BigQuery prunes by nothing else. `days` are in order."""
    if not days:
        return "FALSE"
    if len(days) > MAX_LISTED_DAYS:
        return f"{column} BETWEEN DATE '{days[0]}' AND DATE '{days[-1]}'"
    listed = ", ".join(f"DATE '{day}'" for day in days)
    return f"{column} IN ({listed})"


def day_parts(days: Sequence[date]) -> Iterator[Sequence[date]]:
    """The days in pieces that one job may modify."""
    return (days[start : start + MAX_DAYS_A_JOB] for start in range(0, len(days), MAX_DAYS_A_JOB))


def transaction(names: Names, statements: Iterable[str]) -> str:
    """A script that does all of it, and moves the state on, or nothing.

    @version is the state's that this run has read or written last, 0 where there was none; @state is the new one.
    """
    stands = f"SELECT COALESCE(MAX(version), 0) AS version FROM {names.state} WHERE name = '{_STATE}'"
    fence = (
        f"SELECT IF(version = @version, TRUE, ERROR(CONCAT('{FENCE}: ', CAST(version AS STRING)))) FROM ({stands})",
        (
            f"MERGE {names.state} t USING (SELECT '{_STATE}' AS name) s ON t.name = s.name"
            " WHEN MATCHED THEN UPDATE SET version = @version + 1, state = @state"
            " WHEN NOT MATCHED THEN INSERT (name, version, state) VALUES (s.name, @version + 1, @state)"
        ),
    )
    return ";\n".join(("BEGIN TRANSACTION", *fence, *statements, "COMMIT TRANSACTION")) + ";"


# Changes


def staged_rows(staged: str) -> str:
    """A slice's rows, in SWEPT's columns."""
    return f"SELECT {', '.join(STAGED.names)}, @asked_at AS asked_at FROM {staged}"


def insert_changes(names: Names, changes: str, rows: str, days: Sequence[date] | None) -> str:
    """Compare rows in SWEPT's columns with the kept sales of these days (None: of all), and those without a day.

    Of an id's rows the one with the newest time of change counts, among those the last one. It loses to a kept sale
    that was asked for after it; and with an older time of change to one that was asked for less than @lookback before.
    """
    where = _ANY_DAY if days is None else f"({on_days(days)} OR sale_date IS NULL)"
    kept = ", ".join(f"k.{name} AS old_{name}" for name in ("sale_id", *COMPARED))
    day = "IF(l.is_undated, COALESCE(k.sale_date, l.sale_date), l.sale_date)"
    coming = ", ".join(f"{day} AS sale_date" if name == "sale_date" else f"l.{name}" for name in COMPARED)
    return f"""
        INSERT INTO {changes} ({", ".join(CHANGES.names)})
        WITH latest AS (
          SELECT * FROM ({rows}) WHERE TRUE
          QUALIFY ROW_NUMBER() OVER (PARTITION BY sale_id ORDER BY changed_at DESC NULLS LAST, asked_at DESC,
            number DESC) = 1
        ), kept AS (
          SELECT * FROM {names.sales} WHERE {where}
        ), compared AS (
          SELECT l.sale_id, {coming}, l.asked_at, l.created_at, {kept}, k.generation AS old_generation,
            k.asked_at AS old_asked_at
          FROM latest l LEFT JOIN kept k ON k.sale_id = l.sale_id
        )
        SELECT {", ".join(CHANGES.names[:-2])}, FALSE, old_sale_id IS NULL OR {_differ((*COUNTED, "reason"))}
        FROM compared
        WHERE old_sale_id IS NULL OR old_generation < @generation OR (({_differ(COMPARED)}) AND NOT (
          asked_at < old_asked_at OR COALESCE(changed_at < old_changed_at
            AND TIMESTAMP_DIFF(asked_at, old_asked_at, MICROSECOND) < @lookback, FALSE)))"""


def insert_deletions(names: Names, changes: str, condition: str) -> str:
    """The kept sales for which this holds, as changes that delete them."""
    nothing = "CAST(NULL AS STRING), CAST(NULL AS STRING), CAST(NULL AS DATE), CAST(NULL AS INT64),"
    nothing += " CAST(NULL AS NUMERIC), CAST(NULL AS BOOL), CAST(NULL AS TIMESTAMP), CAST(NULL AS STRING),"
    nothing += " CAST(NULL AS TIMESTAMP), CAST(NULL AS TIMESTAMP)"
    return (
        f"INSERT INTO {changes} ({', '.join(CHANGES.names)}) SELECT {nothing}, {', '.join(('sale_id', *COMPARED))},"
        f" TRUE, TRUE FROM {names.sales} WHERE {_ANY_DAY} AND {condition}"
    )


ARE_OUTDATED = "generation < @generation"
ARE_GIVEN = "sale_id IN UNNEST(@ids)"


def are_missed(names: Names) -> str:
    """A condition for sales that have been missed twice or more."""
    return f"sale_id IN (SELECT sale_id FROM {names.missed} WHERE misses > 1)"


def changes_query(changes: str) -> str:
    """One row: what the changes come to, by which days, and how many of them may stand on other days, too.

    Those are new, and were created before @created_since, or nobody knows when.
    """
    new, old = "NOT is_gone", "old_sale_id IS NOT NULL"

    def moved(name: str, ours: str, theirs: str) -> str:
        return f"COUNTIF({new} AND {ours}) - COUNTIF({old} AND {theirs}) AS {name}"

    def sums(name: str, column: str) -> str:
        return (
            f"COALESCE(SUM(IF({new} AND reason IS NULL, {column}, 0)), 0)"
            f" - COALESCE(SUM(IF({old} AND old_reason IS NULL, old_{column}, 0)), 0) AS {name}"
        )

    return f"""
        SELECT COUNTIF({new} AND old_sale_id IS NULL) AS inserted, COUNTIF({new} AND {old}) AS updated,
          COUNTIF({new} AND is_recounted) AS recounted,
          {moved("kept", "TRUE", "TRUE")},
          {moved("rejected", "reason IS NOT NULL", "old_reason IS NOT NULL")},
          {moved("undated", "reason IS NULL AND is_undated", "old_reason IS NULL AND old_is_undated")},
          {moved("untimed", "changed_at IS NULL", "old_changed_at IS NULL")},
          {sums("tickets", "quantity")}, {sums("revenue", "amount")},
          COUNTIF({_IS_DOUBTFUL}) AS doubtful,
          COUNTIF(({new} AND sale_date IS NULL) OR ({old} AND old_sale_date IS NULL)) AS dateless,
          ARRAY(SELECT DISTINCT day FROM (SELECT sale_date AS day FROM {changes} WHERE {new}
            UNION ALL SELECT old_sale_date FROM {changes} WHERE {old}) WHERE day IS NOT NULL ORDER BY day) AS days,
          ARRAY(SELECT DISTINCT sale_date FROM ({_regrouped(changes)}) ORDER BY sale_date) AS pending_days,
          ARRAY(SELECT AS STRUCT sale_date AS day, MAX(created_at) AS created_at FROM {changes}
            WHERE {new} AND sale_date IS NOT NULL AND created_at >= @created_since GROUP BY sale_date) AS fresh
        FROM {changes}"""


_IS_DOUBTFUL = "NOT is_gone AND old_sale_id IS NULL AND COALESCE(created_at < @created_since, TRUE)"


def elsewhere_query(names: Names, changes: str) -> str:
    """The days on which sales are kept already that seem to be new: it reads the ids and days of all kept sales."""
    return (
        f"SELECT DISTINCT sale_date FROM {names.sales} WHERE sale_date IS NOT NULL"
        f" AND sale_id IN (SELECT sale_id FROM {changes} WHERE {_IS_DOUBTFUL})"
    )


def apply_changes(names: Names, changes: str, days: Sequence[date], *, has_dateless: bool) -> list[str]:
    """Write the changes to the kept sales, on these days and to those without one, and note their events."""
    parts = [(on_days(part), on_days(part, "old_sale_date"), on_days(part, "t.sale_date")) for part in day_parts(days)]
    if has_dateless:
        parts.insert(0, ("sale_date IS NULL", "old_sale_date IS NULL", "t.sale_date IS NULL"))
    return [*(_merge_sales(names, changes, *part) for part in parts), _insert_events(names, changes)]


def _merge_sales(names: Names, changes: str, is_put: str, is_taken: str, is_there: str) -> str:
    """One MERGE within some days: a sale that moves is taken from its day, and put on the other."""
    same_day = "" if "NULL" in is_there else "t.sale_date = s.sale_date AND "
    columns = ("sale_id", *COMPARED, "asked_at")
    return f"""
        MERGE {names.sales} t
        USING (
          SELECT {", ".join(columns)}, FALSE AS is_taken FROM {changes} WHERE NOT is_gone AND {is_put}
          UNION ALL
          SELECT old_sale_id, {", ".join(f"old_{name}" for name in COMPARED)}, asked_at, TRUE FROM {changes}
          WHERE old_sale_id IS NOT NULL AND (is_gone OR sale_date IS DISTINCT FROM old_sale_date) AND {is_taken}
        ) s
        ON t.sale_id = s.sale_id AND {same_day}{is_there}
        WHEN MATCHED AND s.is_taken THEN DELETE
        WHEN MATCHED THEN
          UPDATE SET {", ".join(f"{name} = s.{name}" for name in columns[1:])}, generation = @generation
        WHEN NOT MATCHED AND NOT s.is_taken THEN
          INSERT ({", ".join(TICKET_SALES.names)}) VALUES ({", ".join(f"s.{name}" for name in columns)}, @generation)"""


def _insert_events(names: Names, changes: str) -> str:
    """Events that are sold without being listed."""
    return (
        f"INSERT INTO {names.events} (event_id, event_name, is_listed)"
        f" SELECT c.event_id, CAST(NULL AS STRING), FALSE FROM (SELECT DISTINCT event_id FROM {changes}"
        f" WHERE NOT is_gone AND event_id IS NOT NULL) c LEFT JOIN {names.events} e ON e.event_id = c.event_id"
        " WHERE e.event_id IS NULL"
    )


def _regrouped(changes: str) -> str:
    """The groups whose sums the changes move."""
    return (
        f"SELECT event_id, sale_date FROM {changes} WHERE is_recounted AND NOT is_gone AND reason IS NULL"
        f" UNION DISTINCT SELECT old_event_id, old_sale_date FROM {changes}"
        " WHERE is_recounted AND old_sale_id IS NOT NULL AND old_reason IS NULL"
    )


def insert_pending(names: Names, changes: str) -> str:
    """Note in @stores the groups that the changes move."""
    return (
        f"INSERT INTO {names.pending} (store, event_id, sale_date) SELECT s.store, g.event_id, g.sale_date"
        f" FROM ({_regrouped(changes)}) g CROSS JOIN (SELECT store FROM UNNEST(@stores) AS store) s"
        f" LEFT JOIN {names.pending} p ON p.store = s.store AND p.event_id = g.event_id AND p.sale_date = g.sale_date"
        " WHERE p.store IS NULL"
    )


def insert_pending_groups(names: Names) -> str:
    """Note in @stores these @groups, whose day may be null."""
    never = "DATE '0001-01-01'"
    return (
        f"INSERT INTO {names.pending} (store, event_id, sale_date) SELECT s.store, g.event_id, g.sale_date"
        " FROM UNNEST(@groups) g CROSS JOIN (SELECT store FROM UNNEST(@stores) AS store) s"
        f" LEFT JOIN {names.pending} p ON p.store = s.store AND p.event_id = g.event_id"
        f" AND COALESCE(p.sale_date, {never}) = COALESCE(g.sale_date, {never}) WHERE p.store IS NULL"
    )


def delete_pending(names: Names) -> str:
    """Forget what was pending in @store."""
    return f"DELETE FROM {names.pending} WHERE store = @store"


# Sweeps


def insert_swept(names: Names, rows: str) -> str:
    """Put rows in SWEPT's columns aside until the sweep's end."""
    columns = ", ".join(SWEPT.names)
    return f"INSERT INTO {names.swept} ({columns}) SELECT {columns} FROM ({rows})"


def swept_rows(names: Names) -> str:
    """All that was put aside."""
    return f"SELECT {', '.join(SWEPT.names)} FROM {names.swept}"


def empty(table: str) -> str:
    """Delete all rows, for nothing: a DELETE would be billed for all of them."""
    return f"TRUNCATE TABLE {table}"


def _unseen(names: Names) -> str:
    return (
        f"SELECT k.sale_id FROM (SELECT sale_id FROM {names.sales} WHERE {_ANY_DAY}) k"
        f" LEFT JOIN (SELECT DISTINCT sale_id FROM {names.swept}) s ON s.sale_id = k.sale_id WHERE s.sale_id IS NULL"
    )


def unseen_query(names: Names, limit: int) -> str:
    """One row: how many kept sales the sweep hasn't seen, and some of their ids."""
    return (
        f"WITH unseen AS ({_unseen(names)}) SELECT (SELECT COUNT(*) FROM unseen) AS number,"
        f" ARRAY(SELECT sale_id FROM unseen ORDER BY sale_id LIMIT {limit}) AS ids"
    )


def merge_missed(names: Names) -> str:
    """Note which sales the sweep hasn't seen, and @misses more of each."""
    return (
        f"MERGE {names.missed} t USING ({_unseen(names)}) s ON t.sale_id = s.sale_id"
        " WHEN MATCHED THEN UPDATE SET misses = t.misses + @misses"
        " WHEN NOT MATCHED THEN INSERT (sale_id, misses) VALUES (s.sale_id, @misses)"
        " WHEN NOT MATCHED BY SOURCE THEN DELETE"
    )


def delete_missed(names: Names, changes: str) -> str:
    """Forget those that are deleted."""
    return f"DELETE FROM {names.missed} WHERE sale_id IN (SELECT old_sale_id FROM {changes})"


def missed_query(names: Names) -> str:
    """One row: how many sales have been missed twice or more."""
    return f"SELECT COUNT(*) AS number FROM {names.missed} WHERE misses > 1"


def counts_query(names: Names) -> str:
    """One row: what is kept."""
    return (
        "SELECT COUNT(*) AS kept, COUNTIF(reason IS NOT NULL) AS rejected,"
        " COUNTIF(reason IS NULL AND is_undated) AS undated, COUNTIF(changed_at IS NULL) AS untimed,"
        " COALESCE(SUM(IF(reason IS NULL, quantity, 0)), 0) AS tickets,"
        f" COALESCE(SUM(IF(reason IS NULL, amount, 0)), 0) AS revenue FROM {names.sales} WHERE {_ANY_DAY}"
    )


def reasons_query(names: Names) -> str:
    """How many kept sales can't be used, by reason."""
    return (
        f"SELECT reason, COUNT(*) AS sales FROM {names.sales} WHERE {_ANY_DAY} AND reason IS NOT NULL GROUP BY reason"
    )


# Events


def merge_events(names: Names) -> str:
    """Take over @events: new ones, other names, and those that are listed no more."""
    return (
        f"MERGE {names.events} t USING (SELECT event_id, event_name, is_listed FROM UNNEST(@events)) s"
        " ON t.event_id = s.event_id"
        " WHEN MATCHED THEN UPDATE SET event_name = s.event_name, is_listed = s.is_listed"
        " WHEN NOT MATCHED THEN INSERT (event_id, event_name, is_listed)"
        " VALUES (s.event_id, s.event_name, s.is_listed)"
    )


# Publication


def sales_with(names: Names, changes: str) -> str:
    """The kept sales as they would be with changes."""
    columns = ("sale_id", *COMPARED)
    kept = ", ".join(f"k.{name}" for name in columns)
    return (
        f"(SELECT {kept} FROM (SELECT * FROM {names.sales} WHERE {_ANY_DAY}) k"
        f" LEFT JOIN {changes} c ON c.old_sale_id = k.sale_id"
        f" WHERE c.old_sale_id IS NULL UNION ALL SELECT {', '.join(columns)} FROM {changes} WHERE NOT is_gone)"
    )


def pending_rows(names: Names) -> str:
    """What is pending in @store, as a table."""
    return f"(SELECT DISTINCT event_id, sale_date FROM {names.pending} WHERE store = @store)"


def pending_with(names: Names, changes: str) -> str:
    """What would be pending with changes, of sales and of @events."""
    return (
        f"(SELECT event_id, sale_date FROM {names.pending} WHERE store = @store UNION DISTINCT {_regrouped(changes)}"
        " UNION DISTINCT SELECT event_id, CAST(NULL AS DATE) FROM UNNEST(@events))"
    )


def all_events(names: Names) -> str:
    """The events with their names, as a table."""
    return f"(SELECT event_id, event_name FROM {names.events})"


def events_with(names: Names) -> str:
    """The same as they would be with @events."""
    return (
        f"(SELECT e.event_id, e.event_name FROM {names.events} e LEFT JOIN UNNEST(@events) n"
        " ON n.event_id = e.event_id WHERE n.event_id IS NULL"
        " UNION ALL SELECT event_id, event_name FROM UNNEST(@events))"
    )


class Source:
    """What a publication is made of: tables, and the days on which something is pending (None: all).

    BigQuery prunes partitions for sure where the filter stands beside the table: kept sales come by their name.
    """

    def __init__(self, names: Names, sales: str, pending: str, events: str, days: Sequence[date] | None) -> None:
        self.names = names
        self.events = events
        self.is_everything = days is None
        self._sales = sales
        self._pending = pending
        self._days = days

    @property
    def where(self) -> str:
        """A filter over the days."""
        return _ANY_DAY if self._days is None else on_days(self._days)

    @property
    def scope(self) -> str:
        """The events that are to be published."""
        pending = f"SELECT DISTINCT event_id FROM {self._pending}"
        if self._days is not None:
            return f"({pending})"
        sold = f"SELECT event_id FROM {self._sales} WHERE {_ANY_DAY} AND reason IS NULL"
        return f"(SELECT event_id FROM {self.events} UNION DISTINCT {sold} UNION DISTINCT {pending})"

    @property
    def sold(self) -> str:
        """The sums of the groups on these days."""
        return (
            "SELECT event_id, sale_date, SUM(quantity) AS tickets, SUM(amount) AS revenue, COUNT(*) AS sales"
            f" FROM {self._sales} WHERE {self.where} AND reason IS NULL GROUP BY event_id, sale_date"
        )

    def wanted(self, sold: str) -> str:
        """The groups that are to be published."""
        if self._days is not None:
            return f"SELECT event_id, sale_date FROM {self._pending} WHERE sale_date IS NOT NULL"
        return f"SELECT event_id, sale_date FROM {sold}"


def insert_groups(source: Source, groups: str) -> str:
    """The sums of what is to be published, beside what is; with everything also days that are sold no more."""
    held = f"SELECT event_id, sale_date, tickets_sold, revenue FROM {source.names.daily} WHERE {source.where}"
    unsold = ""
    if source.is_everything:
        unsold = (
            f" UNION DISTINCT SELECT d.event_id, d.sale_date FROM ({held}) d JOIN {source.scope} s"
            " ON s.event_id = d.event_id"
        )
    return f"""
        INSERT INTO {groups} ({", ".join(GROUPS.names)})
        WITH sold AS ({source.sold}), wanted AS ({source.wanted("sold")}{unsold}), held AS (
          SELECT event_id, sale_date, COUNT(*) AS held_rows, MAX(tickets_sold) AS tickets, MAX(revenue) AS revenue
          FROM ({held}) GROUP BY event_id, sale_date
        )
        SELECT w.event_id, w.sale_date, COALESCE(s.tickets, 0), COALESCE(s.revenue, 0), COALESCE(s.sales, 0),
          COALESCE(h.held_rows, 0), h.tickets, h.revenue
        FROM wanted w LEFT JOIN sold s ON s.event_id = w.event_id AND s.sale_date = w.sale_date
        LEFT JOIN held h ON h.event_id = w.event_id AND h.sale_date = w.sale_date"""


def insert_totals(source: Source, groups: str, totals: str) -> str:
    """The events' rows: the sums of their days. An event that came without a name keeps the one that it has."""
    names = source.names
    return f"""
        INSERT INTO {totals} ({", ".join(TOTALS.names)})
        WITH scope AS (SELECT event_id FROM {source.scope}), days AS (
          SELECT d.event_id, d.tickets_sold AS tickets, d.revenue AS revenue
          FROM (SELECT event_id, sale_date, tickets_sold, revenue FROM {names.daily} WHERE {_ANY_DAY}) d
          LEFT JOIN {groups} g ON g.event_id = d.event_id AND g.sale_date = d.sale_date WHERE g.event_id IS NULL
          UNION ALL SELECT event_id, tickets, revenue FROM {groups} WHERE sales > 0
        ), sums AS (
          SELECT event_id, SUM(tickets) AS tickets, SUM(revenue) AS revenue FROM days GROUP BY event_id
        ), held AS (
          SELECT t.event_id, COUNT(*) AS held_rows, {last_name("t")} AS event_name, MAX(t.total_tickets) AS tickets,
            MAX(t.total_revenue) AS revenue
          FROM {names.summary} t GROUP BY t.event_id
        )
        SELECT o.event_id, COALESCE(e.event_name, h.event_name), COALESCE(s.tickets, 0), COALESCE(s.revenue, 0),
          COALESCE(h.held_rows, 0), h.tickets, h.revenue, h.event_name
        FROM scope o LEFT JOIN {source.events} e ON e.event_id = o.event_id
        LEFT JOIN sums s ON s.event_id = o.event_id LEFT JOIN held h ON h.event_id = o.event_id"""


_GROUP_DIFFERS = (
    "(held_rows <> IF(sales > 0, 1, 0) OR (sales > 0 AND (held_tickets IS DISTINCT FROM tickets"
    " OR held_revenue IS DISTINCT FROM revenue)))"
)
_TOTAL_DIFFERS = (
    "(held_rows <> 1 OR held_name IS DISTINCT FROM event_name OR held_tickets IS DISTINCT FROM tickets"
    " OR held_revenue IS DISTINCT FROM revenue)"
)


def publication_query(groups: str, totals: str) -> str:
    """One row: what is to change in either table, and on which days."""

    def changes(prefix: str, table: str, stays: str, differs: str) -> str:
        kinds = {
            "inserted": f"{stays} AND held_rows = 0",
            "updated": f"{stays} AND held_rows > 0 AND {differs}",
            "deleted": f"NOT {stays} AND held_rows > 0",
            "unchanged": f"{stays} AND NOT {differs}",
        }
        return ", ".join(f"(SELECT COUNTIF({kind}) FROM {table}) AS {prefix}_{name}" for name, kind in kinds.items())

    return f"""
        SELECT {changes("daily", groups, "sales > 0", _GROUP_DIFFERS)},
          {changes("summary", totals, "TRUE", _TOTAL_DIFFERS)},
          ARRAY(SELECT DISTINCT sale_date FROM {groups} WHERE {_GROUP_DIFFERS} ORDER BY sale_date) AS days"""


def publish_statements(names: Names, groups: str, totals: str, days: Sequence[date]) -> list[str]:
    """Write what differs, on these days: whatever stands there more than once becomes one row, or none."""
    statements = []
    for part in day_parts(days):
        statements += [
            (
                f"MERGE {names.daily} t USING (SELECT event_id, sale_date FROM {groups} WHERE {_GROUP_DIFFERS}"
                f" AND held_rows > 0 AND {on_days(part)}) s ON t.event_id = s.event_id AND t.sale_date = s.sale_date"
                f" AND {on_days(part, 't.sale_date')} WHEN MATCHED THEN DELETE"
            ),
            (
                f"INSERT INTO {names.daily} (event_id, sale_date, tickets_sold, revenue)"
                f" SELECT event_id, sale_date, tickets, revenue FROM {groups}"
                f" WHERE {_GROUP_DIFFERS} AND sales > 0 AND {on_days(part)}"
            ),
        ]
    there = (
        f"{groups} g LEFT JOIN (SELECT event_id, sale_date, tickets_sold, revenue FROM {names.daily}"
        f" WHERE {on_days(days)}) d ON d.event_id = g.event_id AND d.sale_date = g.sale_date"
        f" WHERE {on_days(days, 'g.sale_date')}"
    )
    wrong_days = (
        "SELECT COUNTIF(IF(g.sales > 0, NOT COALESCE(d.tickets_sold = g.tickets AND d.revenue = g.revenue, FALSE),"
        f" d.event_id IS NOT NULL)) + COUNT(*) - COUNT(DISTINCT CONCAT(CAST(g.sale_date AS STRING), g.event_id))"
        f" FROM {there}"
    )
    wrong_events = (
        f"SELECT COUNT(*) FROM {totals} g LEFT JOIN {names.summary} t ON t.event_id = g.event_id"
        " WHERE NOT COALESCE(t.total_tickets = g.tickets AND t.total_revenue = g.revenue, FALSE)"
    )
    return [
        *statements,
        f"DELETE FROM {names.summary} WHERE event_id IN (SELECT event_id FROM {totals} WHERE {_TOTAL_DIFFERS})",
        (
            f"INSERT INTO {names.summary} (event_id, event_name, total_tickets, total_revenue, last_updated)"
            f" SELECT event_id, event_name, tickets, revenue, @now FROM {totals} WHERE {_TOTAL_DIFFERS}"
        ),
        f"SELECT IF(({wrong_days}) + ({wrong_events}) = 0, TRUE, ERROR('{CHECK}'))",
        delete_pending(names),
    ]


def handover_query(source: Source) -> str:
    """What @store is to be brought to, in the columns of PendingRow."""
    return f"""
        WITH sold AS ({source.sold}), wanted AS ({source.wanted("sold")})
        SELECT w.event_id, CAST(NULL AS STRING) AS event_name, w.sale_date, COALESCE(s.tickets, 0) AS tickets,
          COALESCE(s.revenue, 0) AS revenue, COALESCE(s.sales, 0) AS sales
        FROM wanted w LEFT JOIN sold s ON s.event_id = w.event_id AND s.sale_date = w.sale_date
        UNION ALL
        SELECT o.event_id, e.event_name, CAST(NULL AS DATE), CAST(NULL AS INT64), CAST(NULL AS NUMERIC),
          CAST(NULL AS INT64)
        FROM {source.scope} o LEFT JOIN {source.events} e ON e.event_id = o.event_id"""


def published_query(names: Names) -> str:
    """One row: what is published of the events that are ours and in all, and how many rows there are."""
    return (
        "SELECT COALESCE(SUM(t.total_tickets), 0) AS total,"
        " COALESCE(SUM(IF(e.event_id IS NULL, 0, t.total_tickets)), 0) AS in_scope,"
        " COALESCE(SUM(IF(e.event_id IS NULL, 0, t.total_revenue)), 0) AS revenue, COUNT(*) AS events,"
        f" (SELECT COUNT(*) FROM {names.daily} WHERE {_ANY_DAY}) AS days"
        f" FROM {names.summary} t LEFT JOIN {names.events} e ON e.event_id = t.event_id"
    )


def groups_query(names: Names) -> str:
    """Each group's sums, in the order of events and days."""
    return (
        "SELECT event_id, sale_date, SUM(quantity) AS tickets, SUM(amount) AS revenue"
        f" FROM {names.sales} WHERE {_ANY_DAY} AND reason IS NULL GROUP BY event_id, sale_date"
        " ORDER BY event_id, sale_date"
    )


def pending_query(names: Names) -> str:
    """How much is pending, by store."""
    return f"SELECT store, COUNT(*) AS pending FROM {names.pending} GROUP BY store"


def _differ(columns: Iterable[str]) -> str:
    return " OR ".join(f"{name} IS DISTINCT FROM old_{name}" for name in columns)
