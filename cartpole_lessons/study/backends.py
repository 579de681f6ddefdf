"""Where the trainings of a study run: in this process, on every core, on a cluster, or all seeds of a lesson side by side."""

import contextlib
import functools
import os
import signal
import threading
import time
import warnings
from collections.abc import Callable, Collection, Iterator
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

from cartpole_lessons.errors import MissingDependency
from cartpole_lessons.study.results import StudyError

if TYPE_CHECKING:
    import distributed

BACKENDS = ("loky", "sequential", "dask", "stacked")
#: How long a scheduler or the first worker of a cluster may take to answer.
CONNECT_SECONDS = 10


def results_of(work: Callable, tasks: Collection, backend: str, workers: int | None, scheduler: str | None) -> Iterator[Any]:
    """What `work` returns for each of the tasks, as they finish. Closing it stops those that run."""
    if not tasks:
        return
    if backend == "sequential":
        yield from map(work, tasks)
        return
    joblib = needed("joblib", f'backend="{backend}"', "joblib")
    with contextlib.ExitStack() as around:
        if backend == "dask":
            client = around.enter_context(_client(scheduler))
            with joblib.parallel_config("dask", client=client):
                # All of them at once: the scheduler deals them out to the workers that come and go.
                parallel = joblib.Parallel(batch_size=1, return_as="generator_unordered", pre_dispatch="all")
        else:
            parallel = joblib.Parallel(n_jobs=workers or -1, backend="loky", batch_size=1, return_as="generator_unordered")
            work = functools.partial(_for_owner, os.getpid(), work)
        results = parallel(joblib.delayed(work)(task) for task in tasks)
        around.callback(_close_quietly, results)
        # Not `yield from`, which would close the results itself.
        for result in results:  # noqa: UP028
            yield result


def _for_owner(owner: int, work: Callable, task: Any) -> Any:
    """Do the work in a process that joblib started for the process `owner`. (Where one worker is enough, that is the owner itself.)"""
    if os.getpid() != owner:
        _obey(owner)
    return work(task)


@functools.cache
def _obey(owner: int) -> None:
    """Make this process stop when its owner says so or is no more."""
    # Ctrl-C in a terminal reaches every process. Only the owner decides: a training that stops by itself looks like a result.
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def follow() -> None:
        while os.getppid() == owner:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=follow, daemon=True).start()


def _close_quietly(results: Iterator) -> None:
    """Stop what still runs, without joblib's advice on how there could have been less of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results.close()


@contextlib.contextmanager
def _client(scheduler: str) -> "Iterator[distributed.Client]":
    """A connection to the cluster's scheduler; `StudyError` where there is no scheduler, or no worker."""
    distributed = needed("distributed", 'backend="dask"', "dask distributed")
    try:
        client = distributed.Client(scheduler, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, ValueError):
        raise StudyError(
            f"No scheduler answers at {scheduler}: start one with `dask scheduler`, and pass the address that it prints."
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=CONNECT_SECONDS)
        except TimeoutError:
            raise StudyError(
                f"The scheduler at {scheduler} has no workers: start some with `dask worker {scheduler} --nthreads 1`."
            ) from None
        yield client


def needed(module: str, what: str, packages: str) -> ModuleType:
    """An optional package; `MissingDependency` with the command that installs it."""
    try:
        return import_module(module)
    except ImportError:
        raise MissingDependency(f"{what} needs {module}, which is not installed: run `pip install {packages}`.") from None
