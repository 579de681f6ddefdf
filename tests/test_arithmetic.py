"""How torch computes inside a training, and that the caller's settings and Ctrl-C come back."""

import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from conftest import global_state_untouched

from cartpole_lessons._support.arithmetic import course_arithmetic
from cartpole_lessons._support.interrupts import HeldInterrupts

POSIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such signals")


def settings():
    out = torch.zeros(1, 4) @ torch.zeros(4, 2, requires_grad=True)
    return torch.get_num_threads(), out.dtype, out.requires_grad, out.device.type, torch.get_float32_matmul_precision()


def test_one_thread_float32_gradients_and_the_cpu_whatever_is_set_outside():
    ours = (1, torch.float32, True, "cpu", "highest")
    torch.set_default_dtype(torch.float64)
    torch.set_float32_matmul_precision("medium")
    try:
        for outside in (torch.no_grad(), torch.inference_mode(), torch.autocast("cpu"), torch.device("meta")):
            with outside, global_state_untouched():
                with course_arithmetic():
                    assert settings() == ours
                with pytest.raises(ZeroDivisionError), course_arithmetic():
                    _ = 1 / 0
    finally:
        torch.set_default_dtype(torch.float32)
        torch.set_float32_matmul_precision("highest")


def test_threads_take_turns_so_that_none_puts_back_what_another_has_set():
    def compute(_):
        with course_arithmetic():
            inside = torch.get_default_dtype()
            time.sleep(0.02)
        return inside

    torch.set_default_dtype(torch.float64)
    try:
        with global_state_untouched(), ThreadPoolExecutor(4) as pool:
            assert set(pool.map(compute, range(8))) == {torch.float32}
    finally:
        torch.set_default_dtype(torch.float32)


# Ctrl-C


def press():
    signal.raise_signal(signal.SIGINT)


def test_ctrl_c_takes_effect_where_the_block_asks_and_at_its_end():
    done = []

    def work(asks):
        with HeldInterrupts() as held:
            press()
            done.append("before")
            if asks:
                held.check()
            done.append("after")

    for asks, expected in ((True, ["before"]), (False, ["before", "after"])):
        done.clear()
        with global_state_untouched(), pytest.raises(KeyboardInterrupt):
            work(asks)
        assert done == expected


def test_within_a_held_block_it_is_left_to_the_outer_one_and_may_take_no_effect_at_all():
    with global_state_untouched(), HeldInterrupts(deliver=False) as outer:
        with HeldInterrupts() as inner:
            press()
            inner.check()
        assert outer.pressed


def test_other_threads_have_no_ctrl_c_to_hold():
    held = []

    def use():
        with HeldInterrupts(deliver=False) as interrupts:
            interrupts.check()
            held.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert held == [signal.getsignal(signal.SIGINT)]
