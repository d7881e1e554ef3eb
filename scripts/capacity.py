"""Compute how many pods a load needs, and what they cost, by a simulation of the fleet.

TIMES holds measured service times: a file of milliseconds, one per line, as `python -m scripts.load_test
--times` writes it, or what scripts.bench or scripts.load_test printed. In a load test for this purpose, the
rate must be so low that no photo waits.

For each rate, the table shows the smallest fleet of constant size that reaches the goals. With --target, a
second row shows a fleet with an autoscaler, with the smallest minimum that reaches them. Photos arrive
independently of each other. All figures are about the time of the burst: for an autoscaler, `pods` are the
fewest and the most of that time, and `mean` is what it costs.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ml.cli import whole_number
from scripts.common import arguments
from scripts.common.arguments import at_least

try:
    from scripts.fleet import planning, times
    from scripts.fleet.pods import Limits
    from scripts.fleet.simulation import BALANCES, Autoscaler, Load
except ImportError as error:
    raise SystemExit(f"error: {error.name} is not installed; `make dev` installs it") from None

_MANY = 1_000_000_000
_HEAD = " photos/s fleet     minimum        pods    mean   busy   p50 ms   p99 ms  rejected"


def arguments_of(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add = parser.add_argument
    add("times", type=Path, metavar="TIMES", help="measured service times")
    text = "photos per second before the burst, comma-separated (default: 10,1000,10000)"
    add("--rates", type=arguments.listed(at_least(0.01)), default=[10.0, 1000.0, 10_000.0], help=text)
    add("--burst", type=at_least(1), default=1.0, help="factor by which the rate rises at once (default: 1)")
    add("--seconds", type=at_least(1), default=300.0, help="how long the burst lasts (default: 300)")
    text = "time of an answer that occupies no worker, such as the network's (default: what TIMES says, or 0)"
    add("--overhead-ms", type=at_least(0), help=text)
    add("--seed", type=whole_number(0, _MANY), default=1, help="of the random numbers (default: 1)")
    add = parser.add_argument_group("goals").add_argument
    add("--p99-ms", type=at_least(0.001), default=1000.0, help="99 %% are answered within (default: 1000)")
    text = "largest share of photos that get 503 (default: 0.005)"
    add("--rejected", type=at_least(0), default=0.005, help=text)
    add = parser.add_argument_group("each pod").add_argument
    add("--workers", type=whole_number(1, _MANY), default=1, help="MAX_CONCURRENCY; one per CPU (default: 1)")
    add("--queue", type=whole_number(0, _MANY), default=64, help="MAX_QUEUE (default: 64)")
    add("--timeout", type=at_least(0.001), default=10.0, help="REQUEST_TIMEOUT_S (default: 10)")
    text = "what an hour of a pod costs; without it, the table has no costs"
    add("--price", type=at_least(0), help=text)
    add = parser.add_argument_group("fleet").add_argument
    text = "how the load balancer selects a pod: random, as a Service of Kubernetes does (default), the next "
    text += "one in turn, or the one with the fewest photos in flight"
    add("--balance", choices=BALANCES, default="random", help=text)
    text = "photos in flight per pod that the autoscaler aims at, waiting ones included"
    add("--target", type=at_least(0.001), help=text)
    add(
        "--most",
        type=whole_number(1, _MANY),
        default=1_000_000,
        help="the autoscaler's maximum (default: none)",
    )
    text = "seconds until a new pod is ready: scheduling, image, model, readiness probe (default: 10)"
    add("--start", type=at_least(0), default=10.0, help=text)
    add("--every", type=at_least(1), default=15.0, help="seconds between two decisions (default: 15)")
    text = "seconds for which fewer pods must suffice before some are removed (default: 300)"
    add("--stabilization", type=at_least(0), default=300.0, help=text)


def print_row(
    plan: planning.Plan, load: Load, fleet: str, service: planning.Service, price: float | None
) -> None:
    """Print one row of the table."""
    outcome, rate = plan.outcome, load.rate * load.burst
    busy = service.busy_workers(rate) / service.limits.workers / outcome.mean_pods
    fewest, most = f"{outcome.least_pods:.0f}", f"{outcome.most_pods:.0f}"
    pods = fewest if fewest == most else f"{fewest}-{most}"
    row = (
        f"{load.rate:9g} {fleet:8} {plan.least:8} {pods:>11} {outcome.mean_pods:7.1f} {busy:6.0%} "
        f"{outcome.quantile_ms(0.5):8.1f} {outcome.quantile_ms(0.99):8.1f} {outcome.rejected:9.3%}"
    )
    if price is not None:
        hourly = price * outcome.mean_pods
        row += f" {hourly:9.2f} {hourly / (rate * 3600) * 1e6:12.3f}"
    print(row, flush=True)


def print_table(service: planning.Service, options: argparse.Namespace) -> None:
    """Print a row or two for each rate."""
    mean_ms = 1000 * service.times.mean
    print(f"mean service time: {mean_ms:.2f} ms, overhead: {1000 * service.times.overhead_s:.2f} ms")
    print(_HEAD + (f" {'per hour':>9} {'per million':>12}" if options.price is not None else ""))
    goal = planning.Goal(options.p99_ms, options.rejected)
    for rate in options.rates:
        load = Load(rate, options.burst, options.seconds)
        constant = planning.constant_fleet(service, rate * options.burst, goal)
        print_row(constant, load, "constant", service, options.price)
        if options.target:
            scaler = Autoscaler(
                options.target, 1, options.most, options.start, options.every, options.stabilization
            )
            scaled = planning.scaled_fleet(service, load, scaler, goal, constant.least)
            print_row(scaled, load, "scaled", service, options.price)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table; return the exit code."""
    parser = arguments.parser("capacity", __doc__, "times.txt --burst 2 --target 0.5 --price 0.05")
    arguments_of(parser)
    options = parser.parse_args(argv)
    limits = Limits(options.workers, options.queue, options.timeout)
    try:
        measured = times.read(options.times)
        if options.overhead_ms is not None:
            measured = times.Times(measured.service, options.overhead_ms / 1000)
        print_table(planning.Service(measured, limits, options.balance, options.seed), options)
    except (times.TimesError, planning.PlanError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
