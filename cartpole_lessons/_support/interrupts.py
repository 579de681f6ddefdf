"""Ctrl-C, held back for the few lines in which it would do harm."""

import signal
import threading
from types import FrameType, TracebackType


class HeldInterrupts:
    """`with HeldInterrupts() as held:` Ctrl-C inside the block takes effect when the block is over.

    For a few lines that must all happen or none, such as putting random generators back. deliver: False where it shall take no effect at
    all but that `held.pressed` tells of it. Only Python's main thread receives Ctrl-C, so in other threads, and where a program has
    switched Ctrl-C off, there is nothing to hold back.
    """

    def __init__(self, *, deliver: bool = True) -> None:
        self.deliver = deliver
        self.pressed = False
        self._handler = None

    def __enter__(self) -> "HeldInterrupts":
        if threading.current_thread() is threading.main_thread() and callable(signal.getsignal(signal.SIGINT)):
            self._handler = signal.signal(signal.SIGINT, self._remember)
        return self

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.pressed = True

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._handler is not None:
            signal.signal(signal.SIGINT, self._handler)
        if self.pressed and self.deliver:
            self._handler(signal.SIGINT, None)
