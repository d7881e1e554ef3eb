"""Worker processes that end with the process that started them, also if that is killed."""

import multiprocessing
import os
import threading


def end_with_main_process() -> None:
    """Watch, in a thread of this worker process, the process that started it; end at once if that is gone."""
    threading.Thread(target=_wait_and_exit, daemon=True).start()


def _wait_and_exit() -> None:
    main = multiprocessing.parent_process()
    assert main is not None
    main.join()
    os._exit(1)
