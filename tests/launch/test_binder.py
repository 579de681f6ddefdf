"""Binder: the image that it would build, and every lesson within what a session there gets (`make test-binder`).

repo2docker, which Binder runs, reads the repository and says what it would do, without Docker. Then the same steps are done by hand in
a fresh environment, and every lesson runs on one core and in 2 GB; the peak of each is kept in cartpole_lessons/results/memory.json.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from scratch import BUILD, ROOT, committed, committed_lessons, environment, execute, need_program, variables

REPO2DOCKER = "jupyter-repo2docker==2026.4.0"
SESSION_BYTES = 2 * 1024**3
PEAK_MEGABYTES = 1_000  # half of a session, so that Jupyter's own processes and a second lesson fit in
# What a session's image holds before our requirements, beyond the kernel itself.
BASE = ("ipykernel", "ipython", "jupyter_client", "ipywidgets", "traitlets", "tornado", "nbformat")
MEASURED = ROOT / "cartpole_lessons" / "results" / "memory.json"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Binder is Linux")


@pytest.fixture(scope="module")
def repo2docker():
    return environment("repo2docker", [REPO2DOCKER])


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    """What is committed, as Binder clones it."""
    folder = tmp_path_factory.mktemp("binder")
    subprocess.run(["git", "clone", "--quiet", str(committed(folder)), str(folder / "course")], check=True, capture_output=True)
    return folder / "course"


@pytest.fixture(scope="module")
def dockerfile(repo2docker, checkout):
    """The image's recipe, as repo2docker writes it."""
    command = [repo2docker.folder / "bin" / "jupyter-repo2docker", "--no-build", "--debug", str(checkout)]
    done = subprocess.run(command, env=variables(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr


def test_repo2docker_reads_binder_and_nothing_else(dockerfile):
    assert 'pip install --no-cache-dir -r "binder/requirements.txt"' in dockerfile
    assert "RUN ./binder/postBuild" in dockerfile
    assert 'R2D_ENTRYPOINT="${REPO_DIR}/binder/start"' in dockerfile
    assert re.search(r"apt-get install --yes --no-install-recommends xvfb\b", dockerfile)
    assert "python=3.11" in dockerfile
    # The root's requirements.txt holds what builds the package and makes its pages as well, which no visitor needs.
    assert not re.search(r"pip install .*-r \"?(\$\{REPO_DIR\}/)?requirements.txt", dockerfile)


def test_dependencies_are_installed_before_any_lesson_is_copied(dockerfile):
    """Docker builds a layer again only when a file changes that was copied before it."""
    copied = [(match.start(), match[1]) for match in re.finditer(r"^COPY [^\n]*?(src/\S*)", dockerfile, re.MULTILINE)]
    installed = dockerfile.index('-r "binder/requirements.txt"')
    assert [path for position, path in copied if position < installed] == ["src/binder/requirements.txt"]
    assert [path for position, path in copied if position > installed] == ["src/"]


def test_every_apt_package_exists():
    need_program("apt", "apt-cache")
    names = (ROOT / "binder" / "apt.txt").read_text(encoding="utf-8").split()
    assert names
    for name in names:
        shown = subprocess.run(["apt-cache", "show", name], capture_output=True, text=True)
        if not shown.stdout and subprocess.run(["apt-cache", "show", "bash"], capture_output=True).returncode:
            pytest.fail("apt knows no packages at all: run `apt-get update`.", pytrace=False)
        assert f"Package: {name}" in shown.stdout


# The same steps by hand


@pytest.fixture(scope="module")
def image(repo2docker, checkout):
    """An environment made as Binder makes one: repo2docker's base, binder/requirements.txt, binder/postBuild."""
    (locks,) = repo2docker.folder.glob("lib/python3*/site-packages/repo2docker/buildpacks/conda")
    lock = (locks / "environment.py-3.11-linux-64.lock").read_text()
    base = [f"{name}=={re.search(rf'/{name}-([0-9.]+)-', lock)[1]}" for name in BASE]
    requirements = [line.partition(" #")[0].strip() for line in (checkout / "binder" / "requirements.txt").read_text().splitlines()]
    requirements = [line for line in requirements if line and not line.startswith("#")]
    post_build = checkout / "binder" / "postBuild"
    (uv_line,) = re.findall(r"^uv pip install .*$", post_build.read_text(), re.MULTILINE)
    pinned = re.findall(r"[\w-]+==\S+", uv_line)

    tried = environment("binder-empty", ["uv"])
    path = f"{tried.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    dry = subprocess.run(["bash", "-c", f"{uv_line} --dry-run"], env=variables(PATH=path), capture_output=True, text=True)
    # Where torch's own index is out of reach the package index's torch stands in, and uv finds its wish fulfilled.
    stand_ins = pinned if dry.returncode else []
    # In steps, as there: a later one may replace what an earlier one brought.
    image = environment("binder", base, requirements, *([stand_ins] if stand_ins else []))
    path = f"{image.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    surroundings = variables(PATH=path, JUPYTER_DATA_DIR=str(image.folder / "data"))
    built = subprocess.run([post_build], cwd=checkout, env=surroundings, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    signed = built.stdout.count("Signing notebook") + built.stdout.count("already signed")
    assert signed == len(committed_lessons()) + 1, built.stdout  # and the start page
    frozen = image.freeze()
    (image.folder / "torch.txt").write_text("the package index" if stand_ins else "uv's index of CPU builds")
    wanted = dict(line.split("==") for line in [*requirements, *pinned] if "==" in line)
    assert {name: frozen[name].partition("+")[0] for name in wanted} == wanted
    return image


def test_the_image_holds_the_course_and_no_gpu_libraries(image, tmp_path):
    frozen = image.freeze()
    assert "cartpole-lessons" in frozen
    assert [name for name in frozen if name.startswith(("nvidia-", "triton"))] == []
    where = subprocess.run(
        [image.python, "-c", "import cartpole_lessons; print(cartpole_lessons.__file__)"],
        cwd=tmp_path, env=variables(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert str(image.folder) in where.stdout


class Session:
    """Starts commands on one core and within 2 GB: a memory cgroup where we may make one, else a limit on each process's data."""

    def __init__(self):
        self.group = None
        for root, limit in ((Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"), (Path("/sys/fs/cgroup"), "memory.max")):
            group = root / f"cartpole-lessons-{os.getpid()}"
            try:
                group.mkdir()
            except OSError:
                continue
            try:
                (group / limit).write_text(str(SESSION_BYTES))
                self.group = group
                break
            except OSError:
                group.rmdir()
        self.kind = "cgroup" if self.group else "RLIMIT_DATA"

    def command(self, *command):
        """The command line that runs `command` in the session."""
        core = str(min(os.sched_getaffinity(0)))
        join = f'echo $$ > "{self.group}/cgroup.procs" && exec "$@"' if self.group else f'ulimit -d {SESSION_BYTES // 1024} && exec "$@"'
        return ["taskset", "--cpu-list", core, "bash", "-c", join, "session", *map(str, command)]

    @contextlib.contextmanager
    def peak_megabytes(self):
        """Yields a list that holds, after the block, the most memory that all processes of the session had together; None without cgroup.

        Without the files that the system keeps in memory for as long as nobody needs the place.
        """
        peak, over = [None], threading.Event()

        def sample():
            while self.group and not over.wait(0.2):
                figures = dict(line.split() for line in (self.group / "memory.stat").read_text().splitlines())
                peak[0] = max(peak[0] or 0, int(figures.get("total_rss", figures.get("anon"))) / 1024**2)

        sampler = threading.Thread(target=sample)
        sampler.start()
        try:
            yield peak
        finally:
            over.set()
            sampler.join()

    def close(self):
        if self.group:
            self.group.rmdir()


@pytest.fixture(scope="module")
def session():
    need_program("util-linux", "taskset")
    session = Session()
    yield session
    session.close()


def test_the_limit_holds(session):
    """A limit that nothing ever meets would prove nothing."""
    greedy = subprocess.run(
        session.command(sys.executable, "-c", f"import os; print(len(os.sched_getaffinity(0))); len(bytearray({SESSION_BYTES}))"),
        capture_output=True,
        text=True,
    )
    assert greedy.stdout in ("", "1\n")  # killed before it printed, or after
    assert greedy.returncode != 0
    modest = subprocess.run(session.command(sys.executable, "-c", "len(bytearray(500_000_000))"))
    assert modest.returncode == 0


@pytest.fixture(scope="module")
def peaks(session):
    """{lesson: megabytes}, written to the results when all lessons have been measured."""
    peaks = {}
    yield peaks
    if set(peaks) == {Path(lesson).stem for lesson in committed_lessons()}:
        MEASURED.write_text(
            json.dumps({"limit": session.kind, "limit_bytes": SESSION_BYTES, "cores": 1, "peak_megabytes": peaks}, indent=1) + "\n"
        )


@pytest.mark.parametrize("lesson", committed_lessons())
def test_the_lesson_runs_in_a_session(image, checkout, session, peaks, lesson, tmp_path):
    notebook = tmp_path / lesson
    notebook.write_bytes((checkout / "notebooks" / lesson).read_bytes())
    surroundings = variables(BINDER_SERVICE_HOST="10.0.0.1", PATH=f"{image.folder / 'bin'}{os.pathsep}{os.environ['PATH']}")
    with session.peak_megabytes() as together:
        done = execute(notebook, session.command(checkout / "binder" / "start", image.python), surroundings)
    done.keep(BUILD / "binder-lessons" / lesson)
    assert done.error is None
    assert done.printed("setup").startswith("Binder: ")
    capped = {name: done.kernel_variables.get(name) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
    assert set(capped.values()) == {"1"}, capped
    # The kernel, or where that is more the kernel with ffmpeg and the other processes that it starts.
    peak = max(done.peak_megabytes, together[0] or 0)
    assert peak < PEAK_MEGABYTES
    peaks[Path(lesson).stem] = round(peak)
