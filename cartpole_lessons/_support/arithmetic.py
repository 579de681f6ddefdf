"""How torch computes while the course does: settings of the process that a notebook may have changed, ours for as long as it takes."""

import contextlib
from collections.abc import Iterator

import torch

from cartpole_lessons._support.seeding import one_at_a_time


@contextlib.contextmanager
def course_arithmetic() -> Iterator[None]:
    """Inside the block torch has one thread, float32, gradients, the CPU and no autocast; afterwards everything is as it was before.

    One thread, because for networks this small handing work to more costs more than the work. These settings are the whole process's,
    so threads that come to such a block wait for each other, as they do for `seeded`.
    """
    with one_at_a_time, _settings():
        yield


@contextlib.contextmanager
def _settings() -> Iterator[None]:
    threads, dtype, precision = torch.get_num_threads(), torch.get_default_dtype(), torch.get_float32_matmul_precision()
    with contextlib.ExitStack() as around:
        around.callback(torch.set_num_threads, threads)
        around.callback(torch.set_default_dtype, dtype)
        around.callback(torch.set_float32_matmul_precision, precision)
        torch.set_num_threads(1)
        torch.set_default_dtype(torch.float32)
        torch.set_float32_matmul_precision("highest")
        # Only where they are in use: some of these slow every call of torch.
        if torch.get_default_device().type != "cpu":
            around.enter_context(torch.device("cpu"))
        if torch.is_inference_mode_enabled():
            around.enter_context(torch.inference_mode(False))
        if not torch.is_grad_enabled():
            around.enter_context(torch.enable_grad())
        for device in ("cpu", "cuda"):
            if torch.is_autocast_enabled(device):
                around.enter_context(torch.autocast(device, enabled=False))
        yield
