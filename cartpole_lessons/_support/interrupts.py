"""Ctrl-C where it can do no harm: between two steps of our choosing, in place of between any two lines."""

import _thread
import signal
import threading
import time
from types import FrameType, TracebackType

#: A block that has not asked for so many seconds whether it shall stop is stopped wherever it is.
PATIENCE = 1.0


class HeldInterrupts:
    """`with HeldInterrupts() as held:` Ctrl-C inside the block takes effect at the next `held.check()`, or when the block is over.

    As Python has it, Ctrl-C is an exception between any two lines, and may come in the middle of putting things back. Here it comes where
    everything is whole.

    patience: seconds after which it takes effect wherever the block is, so that a loop that never asks can be stopped; None: never.
    deliver: False where it shall take no effect at all but that `held.pressed` tells of it.
    Only Python's main thread receives Ctrl-C, so in other threads, and where a program has switched Ctrl-C off, there is nothing to hold.
    """

    def __init__(self, *, patience: float | None = None, deliver: bool = True) -> None:
        self.patience, self.deliver = patience, deliver
        self.pressed = False
        self._pressed_at = 0.0
        self._before = None

    def __enter__(self) -> "HeldInterrupts":
        if threading.current_thread() is threading.main_thread() and callable(signal.getsignal(signal.SIGINT)):
            self._before = signal.signal(signal.SIGINT, self._remember)
        return self

    def check(self) -> None:
        """Raise the KeyboardInterrupt that was held back, where there was one."""
        if self.pressed:
            self.pressed = False
            self._before(signal.SIGINT, None)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if not self.pressed:
            self.pressed, self._pressed_at = True, time.monotonic()
            if self.patience is not None:
                _thread.start_new_thread(self._press_again, ())
        elif self.patience is not None and time.monotonic() - self._pressed_at >= self.patience:
            self.check()

    def _press_again(self) -> None:
        time.sleep(self.patience)
        if self.pressed and self._before is not None:
            if hasattr(signal, "pthread_kill"):  # unlike the other it wakes up who sleeps
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            else:
                _thread.interrupt_main()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._before is not None:
            before, self._before = self._before, None
            signal.signal(signal.SIGINT, before)
            if self.pressed and self.deliver:
                before(signal.SIGINT, None)
