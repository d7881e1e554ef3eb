#!/usr/bin/env python3
"""Write how the service and its model did over a period, from what Prometheus knows, as one HTML file.

usage: report.py PROMETHEUS_URL [--hours 24] [--out report.html] [--job cats-vs-dogs]

Traffic, objectives and their budget, latency, refusals, starts, alerts; model versions, label share,
confidence, drift, feedback: a figure and a chart of each. The file needs nothing but itself: no script, no
other address. The charts of objectives, drift and feedback need the rules of monitoring/rules, the rest only
the service's metrics. PROMETHEUS_TOKEN in the environment is sent as Bearer token.
"""

import argparse
import math
import os
import re
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from common.patient import ServiceError
from reporting.prometheus import Period, Source

_MAX_HOURS = 24 * 366


def main() -> int:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url", help="of Prometheus, such as http://localhost:9090")
    parser.add_argument("--hours", type=float, default=24.0, help="up to now (default: 24)")
    parser.add_argument("--out", type=Path, default=Path("report.html"))
    parser.add_argument("--job", default="cats-vs-dogs", help="as Prometheus names it")
    parser.add_argument("--patience", type=float, default=60.0, help="seconds a query may take (default: 60)")
    options = parser.parse_args()
    if not (0 < options.hours <= _MAX_HOURS and math.isfinite(options.hours)):
        parser.error(f"--hours must be over 0, and {_MAX_HOURS} at most")
    if not re.fullmatch(r"[\w.:/-]+", options.job):
        parser.error("--job: letters, digits and . : / - _ only")
    if not 0 < options.patience < math.inf:
        parser.error("--patience must be positive")
    token = os.environ.get("PROMETHEUS_TOKEN", "")
    try:
        period = Period.before(time.time(), options.hours)
        source = Source(options.url, token, options.job, period, options.patience)
        source.value("vector(1)")  # see whether it answers, before seconds go into what draws
        from reporting.page import page

        from ml.report.page import write

        text, full = page(source)
        write(text, options.out)
    except (ServiceError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not full:
        print(f"warning: no data of job {options.job} in this period", file=sys.stderr)
    print(options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
