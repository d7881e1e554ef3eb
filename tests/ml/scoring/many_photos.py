"""Scores many photos from S3 on two machines, of which one is killed, and the driver too.

    nice -n 19 python -m tests.ml.scoring.many_photos 2000 20000

For each number: two raylets in network namespaces of their own (as root), moto's S3 on the first machine, and
photos that all differ. Every 500th is broken, and every 4000th kills the process that scores it. When a fifth
of the photos have rows, all processes of the second machine are killed, and a replacement joins. At half, the
driver is killed and started again. At the end, rows and memory are printed.
"""

import importlib.util
import os
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow.dataset
from pyarrow import fs

from tests.helpers.ray_cluster import PORT, Machine, two_machines
from tests.helpers.thumbnails import cat_and_dog
from tests.helpers.waiting import HANG_S, until

S3 = 5000  # port
BROKEN_EVERY, DEADLY_EVERY = 500, 4000


def names(number: int) -> Iterator[tuple[str, str]]:
    """Yield the names of the photos, and the error that each must get."""
    for index in range(number):
        if index % DEADLY_EVERY == DEADLY_EVERY // 4:
            yield f"deadly-{index:07}.jpg", "each process that scores it dies"
        elif index % BROKEN_EVERY == BROKEN_EVERY // 2:
            yield f"broken-{index:07}.jpg", "truncated"
        else:
            yield f"photo-{index:07}.jpg", ""


def store() -> fs.S3FileSystem:
    return fs.S3FileSystem(
        endpoint_override=os.environ["AWS_ENDPOINT_URL"],
        region="us-east-1",
        request_timeout=HANG_S,
    )


def serve(number: int) -> None:
    """Run S3 with the photos. Runs on the first machine, like the two functions below."""
    from moto.s3.models import s3_backends
    from moto.server import ThreadedMotoServer

    animals = cat_and_dog(160)
    account = s3_backends["123456789012"]["aws"]  # the one of requests without a known key
    account.create_bucket("bucket", "us-east-1")
    for index, (name, error) in enumerate(names(number)):  # a request for each would take several minutes
        photo = animals[index % 2][:3000] if error == "truncated" else animals[index % 2]
        account.put_object("bucket", f"photos/{index % 10}/{name}", photo + b"%d" % index)
    server = ThreadedMotoServer("0.0.0.0", S3, verbose=False)
    server.start()
    print("serving", flush=True)
    threading.Event().wait()


def wait_for_rows(number: int) -> None:
    """Wait until the dataset has so many rows."""
    system, selector = store(), fs.FileSelector("bucket/scores", allow_not_found=True)
    while True:
        parts = [info.path for info in system.get_file_info(selector) if info.path.endswith(".parquet")]
        rows = pyarrow.dataset.dataset(parts, filesystem=system).count_rows() if parts else 0
        if rows >= number:
            print(f"{rows:,} rows", flush=True)
            return
        time.sleep(1)


def check(number: int) -> None:
    """Compare the dataset with what was uploaded."""
    rows = (
        pyarrow.dataset.dataset("bucket/scores", filesystem=store(), format="parquet").to_table().to_pylist()
    )
    paths = Counter(row["path"].rpartition("/")[2] for row in rows)
    expected = dict(names(number))
    errors = {row["path"].rpartition("/")[2]: row["error"] or "" for row in rows}
    wrong = [name for name, error in expected.items() if error not in errors.get(name, "?")]
    wrong += [name for name, error in errors.items() if error and not expected[name]]
    contents = {row["sha256"] for row in rows if row["sha256"]}
    twice, lost = sum(count > 1 for count in paths.values()), len(expected.keys() - paths.keys())
    reasons = dict(Counter(error for error in errors.values() if error))
    print(
        f"{len(rows):,} rows, {twice} photos twice, {lost} lost, {len(contents):,} different contents, "
        f"errors {reasons}, {len(wrong)} not as planted",
        flush=True,
    )
    sys.exit(bool(wrong) or len(rows) != number)


def peak(process: int) -> int:
    """Return the most memory that a process has used, in MB."""
    status = Path(f"/proc/{process}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) >> 10


class Peaks:
    """The most memory that the driver and a process that scores have used, in MB."""

    def __init__(self) -> None:
        self.driver = self.worker = 0

    def look(self, driver: int, machines: tuple[Machine, Machine]) -> None:
        for machine in machines:
            for process, command in machine.processes().items():
                try:
                    if process == driver:
                        self.driver = max(self.driver, peak(process))
                    elif command.startswith("ray::"):
                        self.worker = max(self.worker, peak(process))
                except (OSError, IndexError):  # it has just ended
                    pass


def trial(number: int, folder: Path) -> None:
    began, ray_folder = time.monotonic(), tempfile.mkdtemp(prefix="ray")

    def say(what: str) -> None:
        print(f"{number:,} photos, {time.monotonic() - began:5.0f} s: {what}", flush=True)

    with two_machines(folder) as machines:
        first, second = machines
        for machine in machines:
            machine.environment |= {
                "RAY_ADDRESS": f"{first.address}:{PORT}",
                "AWS_ENDPOINT_URL": f"http://{first.address}:{S3}",
                "AWS_ACCESS_KEY_ID": "test",
                "AWS_SECRET_ACCESS_KEY": "test",
            }

        def here(*arguments: str) -> None:
            process = first.start_python("-m", "tests.ml.scoring.many_photos", *arguments)
            assert process.wait() == 0, first.log

        s3 = first.start_python("-m", "tests.ml.scoring.many_photos", "serve", str(number))
        until(lambda: "serving" in first.log or s3.poll() is not None, first.log)
        say("in S3")
        first.start_ray(folder=ray_folder)
        second.start_ray(head=f"{first.address}:{PORT}")
        say(f"two nodes, at {first.address} and {second.address}")
        peaks = Peaks()
        command = ("-m", "tests.helpers.deadly_score", "s3://bucket/photos", "s3://bucket/scores")
        driver = first.start_python(*command)

        def until_rows(share: float) -> None:
            waiting = first.start_python(
                "-m", "tests.ml.scoring.many_photos", "wait", str(int(number * share))
            )
            while waiting.poll() is None:
                assert driver.poll() is None, first.log
                peaks.look(driver.pid, machines)
                time.sleep(1)

        until_rows(0.1)
        say(f"memory at a tenth: driver {peaks.driver} MB, worker {peaks.worker} MB")
        until_rows(0.2)
        second.kill()
        say(f"a node was killed after {first.log.rsplit(' rows', 1)[0].rsplit(maxsplit=1)[-1]} rows")
        second.start_ray(head=f"{first.address}:{PORT}")
        say("another node joined")
        until_rows(0.5)
        driver.kill()
        say(f"the driver was killed after {first.log.rsplit(' rows', 1)[0].rsplit(maxsplit=1)[-1]} rows")
        driver = first.start_python(*command)
        while driver.poll() is None:
            peaks.look(driver.pid, machines)
            time.sleep(1)
        say(f"exit code {driver.returncode}")
        say(f"memory at the end: driver {peaks.driver} MB, worker {peaks.worker} MB")
        print(first.log[first.log.rindex("photos  ") :].strip())
        here("check", str(number))
        say(first.log.rstrip().rpartition("\n")[2])
    shutil.rmtree(ray_folder)


def main() -> None:
    if missing := [name for name in ("ray", "moto") if not importlib.util.find_spec(name)]:
        print(f"skipped: not installed: {', '.join(missing)}")
        return
    for number in sys.argv[1:]:
        with tempfile.TemporaryDirectory() as folder:
            trial(int(number), Path(folder))


if __name__ == "__main__":
    commands = {"serve": serve, "wait": wait_for_rows, "check": check}
    if sys.argv[1] in commands:
        commands[sys.argv[1]](int(sys.argv[2]))
    else:
        main()
