"""Write a report of the service and its model over a period, from the data of Prometheus, as one HTML file.

It shows traffic, objectives and their error budget, latency, rejected requests, starts, alerts, model
versions, label shares, confidence, drift and feedback, each with a figure, the figure of the period before,
and a chart. `unknown` means that Prometheus has no data. The file needs no script and no other address.
Objectives, drift and feedback need the rules of monitoring/rules; the other charts need only the service's
metrics. If PROMETHEUS_TOKEN is set, it is sent as a Bearer token.
"""

import math
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ml.model import NAME
from scripts.common import arguments
from scripts.common.web import RequestError
from scripts.reporting.prometheus import Period, Source

_MAX_HOURS = 24 * 366


def main(argv: Sequence[str] | None = None) -> int:
    """Write the report, and return the exit code."""
    parser = arguments.parser("report", __doc__, "http://localhost:9090 --hours 24")
    add = parser.add_argument
    add("url", help="the URL of Prometheus, such as http://localhost:9090")
    add("--hours", type=float, default=24.0, help="length of the period (default: 24)")
    add("--out", type=Path, default=Path("report.html"), help="default: report.html")
    add("--job", default=NAME, help=f"job in Prometheus (default: {NAME})")
    add("--timeout", type=float, default=60.0, help="seconds for the answer to a query (default: 60)")
    options = parser.parse_args(argv)
    if not 0 < options.hours <= _MAX_HOURS:
        parser.error(f"--hours must be above 0 and at most {_MAX_HOURS}")
    if not re.fullmatch(r"[\w.:/-]+", options.job):
        parser.error("--job may hold only letters, digits and . : / - _")
    if not 0 < options.timeout < math.inf:
        parser.error("--timeout must be a positive number")
    token, period = os.environ.get("PROMETHEUS_TOKEN", ""), Period.before(time.time(), options.hours)
    try:
        source = Source(options.url, token, options.job, period, options.timeout)
        source.check()  # fail before the slow import of matplotlib
        from ml.reporting.rendering import write
        from scripts.reporting.page import page

        text, has_data = page(source)
        write(text, options.out)
    except (RequestError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not has_data:
        print(f"warning: Prometheus has no data of job {options.job} in this period", file=sys.stderr)
    print(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
