"""Offline: with no network at all a local course runs completely (`make test-offline`).

Inside a network namespace of its own nothing exists but the loopback interface, on which a kernel talks to its front end.
"""

import subprocess
import sys

import pytest
from scratch import ROOT, need_program, variables

NO_NETWORK = """
import socket
try:
    socket.create_connection(("192.0.2.1", 80), timeout=5)
except OSError as error:
    print(error.strerror)
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="network namespaces are Linux's")


@pytest.fixture(scope="module")
def offline():
    """The start of a command line that runs without a network."""
    need_program("iproute2", "ip")
    namespace = [need_program("util-linux", "unshare"), "--net", "--map-root-user", "sh", "-c", 'ip link set lo up && exec "$@"', "offline"]
    if subprocess.run([*namespace, "true"], capture_output=True).returncode:
        pytest.fail("This machine lets us make no network namespace: run the test as root.", pytrace=False)
    return namespace


def test_there_is_no_network(offline):
    tried = subprocess.run([*offline, sys.executable, "-c", NO_NETWORK], capture_output=True, text=True)
    assert tried.stdout == "Network is unreachable\n"


def test_lessons_run_and_pages_are_made(offline):
    command = [*offline, sys.executable, "tools/run_lessons.py", "--jobs", "1"]
    done = subprocess.run(command, cwd=ROOT, env=variables(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("done") == len(list((ROOT / "notebooks").rglob("[0-9]*.ipynb")))  # Pidgin's, too


def test_the_package_is_installed_without_an_index(offline, tmp_path):
    """README's second installation line asks nobody for anything, once requirements.txt is there."""
    command = [*offline, sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation", "--target", str(tmp_path), str(ROOT)]
    done = subprocess.run(command, env=variables(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "cartpole_lessons" / "__init__.py").is_file()
