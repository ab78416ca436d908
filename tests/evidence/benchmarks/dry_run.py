"""python -m tests.evidence.benchmarks.dry_run: a dry run as the environment says, in this process.

Prints as JSON how many sales and daily rows there are, and the most memory that the process has had, in bytes.
"""

import json

from etl.logs import configure_logs
from etl.run.pipeline import RunOptions, run_etl_once
from tests.support.memory import peak_bytes

if __name__ == "__main__":
    configure_logs("WARNING")
    report = run_etl_once(options=RunOptions(dry_run=True))
    print(json.dumps([report.sales_count, report.daily_sales_count, peak_bytes()]))
