"""The processes that execute runs."""

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor

import torch


def start_pool(processes: int, threads: int) -> ProcessPoolExecutor:
    """A pool of fresh processes. A forked process would share locks that PyTorch's threads may hold."""
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(processes, mp_context=context, initializer=prepare_worker, initargs=(threads,))


def stop_pool(pool: ProcessPoolExecutor) -> None:
    """End all processes of a pool at once; `shutdown` alone would wait for runs that are under way."""
    for process in list((pool._processes or {}).values()):
        process.terminate()
    pool.shutdown(wait=True, cancel_futures=True)


def prepare_worker(threads: int) -> None:
    """Leave interrupts to the parent, end with the parent, and use this many threads."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=exit_with_parent, daemon=True).start()
    torch.set_num_threads(threads)


def exit_with_parent() -> None:
    """A parent that was killed cannot stop its processes: they would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
