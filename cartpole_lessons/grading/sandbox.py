"""A process for one student's notebook, with limits, watched, and killed with everything that it started.

Where Linux allows it (user namespaces, which most distributions have), the notebook has no network, sees no other process, can write
to nothing but a small folder in memory, and finds no solutions where the course is installed. Elsewhere (macOS, many containers) limits of
memory, time and file size are all there is: it could use the network, write wherever you may, and read your files.

What is never promised: that a kernel's bug cannot be used to break out, that solutions that lie elsewhere on the machine (a second copy
of the course) are not found, or that two notebooks cannot slow each other down. Grade strangers' notebooks on a machine that holds nothing else.
"""

import contextlib
import functools
import json
import os
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Self

from cartpole_lessons.grading.values import LONGEST_LINE

NAMESPACES = ["unshare", "--user", "--map-root-user", "--net", "--pid", "--ipc", "--mount", "--mount-proc", "--fork", "--kill-child"]
#: sh -c THIS sandbox FOLDER BYTES HIDDEN... -- COMMAND...
WALLS = r"""
set -e
# When the machine's memory is short, a notebook ends before the grader does; memory that belongs to no process is not to be had.
echo 1000 >/proc/self/oom_score_adj
echo 0 2>/dev/null >/proc/sys/kernel/shmmni || true
folder=$1; mount -t tmpfs -o "size=$2,nr_inodes=100000" none "$folder"; shift 2
mkdir "$folder/.dev" "$folder/.dev/shm" "$folder/.empty"
for device in null zero random urandom; do
    touch "$folder/.dev/$device"
    mount --bind /dev/$device "$folder/.dev/$device"
    mount -o remount,bind,ro "$folder/.dev/$device"  # written to it can be; its mode cannot be changed
done
ln -s /proc/self/fd "$folder/.dev/fd"
mount --rbind "$folder/.dev" /dev
while [ "$1" != -- ]; do
    if [ -d "$1" ]; then mount --bind "$folder/.empty" "$1"; elif [ -e "$1" ]; then mount --bind /dev/null "$1"; fi
    shift
done
shift
# Read-only, each mount but the folder's; one that refuses is one that could not be written to before. A blank in a name is \040 there.
while read -r _ _ _ _ place _; do
    place=$(printf %b "$place")
    case "$place" in "$folder"|"$folder"/*|/dev|/dev/*) ;; *) mount -o remount,bind,ro "$place" 2>/dev/null || true ;; esac
done </proc/self/mountinfo
cd "$folder"
# Without these rights none of the mounts can be undone.
exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs "$@"
"""


@dataclass(frozen=True)
class Limits:
    """What one notebook may use."""

    seconds: float = 600.0
    memory: int = 2_000_000_000  #: bytes, of all its processes together; also of what it writes
    processes: int = 64
    file_size: int = 100_000_000  #: bytes


@functools.cache
def has_walls() -> bool:
    """Whether this system lets us take the network and the file system away."""
    if not (shutil.which("unshare") and shutil.which("setpriv")):
        return False
    with TemporaryDirectory() as folder:
        command = [*NAMESPACES, "sh", "-c", WALLS, "sandbox", folder, "1000000", "--", "true"]
        return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True).returncode == 0


class Sandbox:
    """`with Sandbox(...) as box`: a notebook runs; `receive` what it hands in, `send` what a function is to be called with.

    package: a folder that Python is to search first, and in which the notebook's own is made. hidden: folders that the notebook must not see.
    `trouble`: what stopped it, (state, sentence), None as long as nothing did.
    """

    def __init__(self, notebook: Path, package: Path, hidden: Sequence[Path], limits: Limits) -> None:
        self.notebook, self.package, self.hidden, self.limits = notebook, package, hidden, limits
        self.trouble: tuple[str, str] | None = None
        self._heard, self._watched = b"", 0.0

    def __enter__(self) -> Self:
        import psutil

        # Within the grader's own, which tidies up for a worker that is killed; the name is short because a socket's path has to be.
        self._folder = TemporaryDirectory(prefix="n-", dir=self.package, ignore_cleanup_errors=True)
        asks, self._asks = os.pipe()
        self._hears, hears = os.pipe()
        os.set_blocking(self._asks, False)
        resources = {
            "RLIMIT_DATA": self.limits.memory, "RLIMIT_FSIZE": self.limits.file_size, "RLIMIT_CPU": int(self.limits.seconds) + 1,
            "RLIMIT_CORE": 0, "RLIMIT_NOFILE": 512,
        }  # fmt: skip
        if has_walls():
            resources["RLIMIT_NPROC"] = 4 * self.limits.processes  # threads count; elsewhere so would all of the user's own
        command = [
            *(sys.executable, str(self.package / "cartpole_lessons" / "grading" / "runner.py"), str(asks), str(hears)),
            json.dumps({"seconds": self.limits.seconds, "resources": resources}),
        ]
        if has_walls():
            size = str(self.limits.memory // 4)
            command = [*NAMESPACES, "sh", "-c", WALLS, "sandbox", self._folder.name, size, *map(str, self.hidden), "--", *command]
        self.started = time.monotonic()
        with open(self.notebook, "rb") as source:
            started = subprocess.Popen(
                command, stdin=source, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=self._folder.name,
                env=self._environment(asks, hears), pass_fds=(asks, hears), start_new_session=True,
            )  # fmt: skip
        self._popen, self._process, self._seen = started, psutil.Process(started.pid), set()
        os.close(asks)
        os.close(hears)
        return self

    def _environment(self, asks: int, hears: int) -> dict[str, str]:
        """Nothing of the instructor's own: variables hold passwords."""
        folder = self._folder.name
        return {
            "PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", "HOME": folder, "TMPDIR": folder, "PYTHONPATH": str(self.package),
            "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "SDL_VIDEODRIVER": "dummy", "GRADER_ASKS": str(asks), "GRADER_HEARS": str(hears),
        }  # fmt: skip

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        self.kill()
        os.close(self._asks)
        os.close(self._hears)
        self._folder.cleanup()

    @property
    def seconds(self) -> float:
        """Since it started."""
        return time.monotonic() - self.started

    def receive(self) -> Any:
        """The next message, whatever it may be; None when there are no more, because the notebook is over or was stopped."""
        while b"\n" not in self._heard:
            if len(self._heard) > LONGEST_LINE:
                self._stop("error", "It wrote nonsense to the grader.")
            if not self._goes_on():
                return None
            if select.select([self._hears], [], [], 0.1)[0]:
                chunk = os.read(self._hears, 65_536)
                if not chunk:
                    return None
                self._heard += chunk
        line, _, self._heard = self._heard.partition(b"\n")
        try:
            return json.loads(line)
        except (ValueError, RecursionError):
            self._stop("error", "It wrote nonsense to the grader.")
            return None

    def send(self, message: Any) -> None:
        """A line for the notebook; lost when it has ended."""
        line = json.dumps(message).encode() + b"\n"
        while line and self._goes_on():
            if select.select([], [self._asks], [], 0.1)[1]:
                try:
                    line = line[os.write(self._asks, line) :]
                except BlockingIOError:
                    pass
                except BrokenPipeError:
                    return

    def _goes_on(self) -> bool:
        """Whether it is within its limits; where not, it is killed."""
        if self.trouble is None and time.monotonic() - self._watched > 0.1:
            processes = self._everything()
            memory = 0
            for process in processes:
                with contextlib.suppress(Exception):  # it may have ended
                    memory += process.memory_info().rss + _in_nameless_files(process.pid)
            if self.seconds > self.limits.seconds:
                self._stop("time-out", f"It was not done after {self.limits.seconds:.0f} s.")
            elif len(processes) > self.limits.processes:
                self._stop("error", f"It started more than {self.limits.processes} processes.")
            elif memory > self.limits.memory:
                self._stop("error", f"It took more than {self.limits.memory / 1e9:.1f} GB of memory.")
            self._watched = time.monotonic()
        return self.trouble is None

    def _everything(self) -> set:
        """All of its processes that run; also those that have left the family, once they have been seen."""
        import psutil

        with contextlib.suppress(psutil.Error):
            self._seen |= {self._process, *self._process.children(recursive=True)}
        self._seen = {process for process in self._seen if _runs(process)}
        return self._seen

    def _stop(self, state: str, reason: str) -> None:
        self.trouble = self.trouble or (state, reason)
        self.kill()

    def kill(self) -> None:
        """End all of its processes."""
        import psutil

        for _ in range(50):
            for process in self._everything():
                with contextlib.suppress(psutil.Error):
                    process.kill()
            self._popen.poll()  # collects it
            if not self._everything():
                return
            time.sleep(0.02)


def _runs(process: Any) -> bool:
    with contextlib.suppress(Exception):
        return process.is_running() and process.status() != "zombie"
    return False


def _in_nameless_files(pid: int) -> int:
    """Bytes in files without a place (`memfd_create`): they fill the memory, and count neither as a process's own nor as the folder's."""
    total = 0
    with contextlib.suppress(OSError):
        for file in os.scandir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(file.path).startswith("/memfd:"):
                    total += os.stat(file.path).st_blocks * 512
    return total
