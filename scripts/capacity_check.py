"""Compare the model of scripts.capacity with instances of the service behind HAProxy on this machine.

Each instance has one worker. In every round, the service times are measured before and after a load of
photos that arrive at random, with single photos and with workers that are all busy, as scripts.bench does it;
the model predicts the load from them. The table shows medians of the rounds, and medians of their ratios.
Instances get a CPU of their own, and so does the rest if there are enough. Use a machine that is quiet:
`drift` is how much the service times of a round differ. Needs HAProxy.
"""

import contextlib
import os
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

from ml.cli import whole_number
from scripts.common import arguments, process
from scripts.common.photos import decodable
from scripts.common.web import RequestError
from scripts.stress.client import Client

try:
    from scripts.fleet.comparing import Figures, compare, service_times
    from scripts.fleet.haproxy import balanced
    from scripts.fleet.pods import Limits
    from scripts.fleet.simulation import BALANCES
except ImportError as error:
    raise SystemExit(f"error: {error.name} is not installed; `make dev` installs it") from None

_PHOTOS, _WARM_UP = 64, 20
_COMPARED = ("mean", "p50", "p99")


@contextlib.contextmanager
def on_cpus(cpus: set[int]) -> Iterator[None]:
    """Let the processes that start in this context run on these CPUs only, as far as the system can."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpus)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextlib.contextmanager
def fleet(instances: int, balance: str, limits: Limits) -> Iterator[str]:
    """Run instances behind HAProxy; yield its URL."""
    cpus = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    env = {"MAX_CONCURRENCY": "1", "THREADS": "1", "MAX_QUEUE": f"{limits.queue}"}
    with contextlib.ExitStack() as stack:
        urls = []
        for number in range(instances):
            with on_cpus({cpus[number % len(cpus)]}):
                urls.append(stack.enter_context(process.service(**env))[0])
        stack.enter_context(on_cpus(set(cpus[instances:] or cpus)))
        yield stack.enter_context(balanced(urls, balance))


def main() -> int:
    """Run the command line; return the exit code."""
    parser = arguments.parser("capacity_check", __doc__, "photos --instances 1,2 --loads 0.3,0.6")
    add = parser.add_argument
    add("photos", nargs="+", type=Path, help=f"photos, or folders of photos; the first {_PHOTOS} are used")
    add(
        "--instances",
        type=arguments.listed(whole_number(1, 100)),
        default=[1, 2],
        help="numbers of instances, comma-separated (default: 1,2)",
    )
    add(
        "--loads",
        type=arguments.listed(arguments.at_least(0.01)),
        default=[0.3, 0.6],
        help="shares of the time that workers are busy (default: 0.3,0.6)",
    )
    add("--seconds", type=arguments.at_least(1), default=10.0, help="duration of a load (default: 10)")
    add("--rounds", type=whole_number(1, 1000), default=5, help="measurements of each figure (default: 5)")
    add(
        "--singles",
        type=whole_number(1, 100_000),
        default=100,
        help="single photos before and after a load (default: 100)",
    )
    add("--balance", choices=BALANCES, default="round-robin", help="default: round-robin")
    options = parser.parse_args()
    photos = decodable(parser, options.photos, _PHOTOS)
    print(f"{'':24} {'answers per second':^18} " + " ".join(f"{name + ' ms':^22}" for name in _COMPARED))
    columns = " ".join([f"{'model':>8} {'measured':>9}"] + 3 * [f"{'model':>7} {'real':>7} {'ratio':>6}"])
    print(f"{'instances':>9} {'load':>6} {'drift':>7} {columns}")
    try:
        for instances in options.instances:
            with fleet(instances, options.balance, Limits()) as url:
                client = Client(url)
                service_times(client, photos, _WARM_UP, instances, 0)
                for load in options.loads:
                    rounds = [
                        compare(
                            client, photos, Limits(), instances, options.balance, load,
                            seconds=options.seconds, singles=options.singles, seed=seed,
                        )
                        for seed in range(options.rounds)
                    ]  # fmt: skip
                    print_row(instances, load, rounds)
    except (process.ProcessError, FileNotFoundError, RequestError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def print_row(instances: int, load: float, rounds: list[tuple[Figures, Figures, float]]) -> None:
    """Print the medians of the rounds."""
    drift = statistics.median(abs(drift) for _, _, drift in rounds)
    row = f"{instances:9} {load:6.0%} {drift:7.0%}"
    row += f" {statistics.median(model.rate for model, _, _ in rounds):8.1f}"
    row += f" {statistics.median(real.rate for _, real, _ in rounds):9.1f}"
    for name in _COMPARED:
        pairs = [(getattr(model, name), getattr(real, name)) for model, real, _ in rounds]
        model, real = (statistics.median(values) for values in zip(*pairs, strict=True))
        row += f" {model:7.1f} {real:7.1f} {statistics.median(m / r for m, r in pairs):6.2f}"
    print(row, flush=True)


if __name__ == "__main__":
    sys.exit(main())
