"""The repository as a whole: derived files, launch files, versions, floors, and what the wheel holds."""

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from graphlib import TopologicalSorter
from pathlib import Path

import badges
import pytest

from cartpole_lessons.study.code import imports

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PACKAGE = ROOT / "cartpole_lessons"


def text(path):
    return (ROOT / path).read_text(encoding="utf-8")


#: As CONTRIBUTING says it. What stands in one folder stands on one floor.
FLOOR_OF = {
    module: int(row[1])
    for row in re.finditer(r"^\| (\d) \| (.+) \|$", text("CONTRIBUTING.md"), re.MULTILINE)
    for module in re.findall(r"`(\w+)/?`", row[2])
}


def tracked_files():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def pins(lines):
    """{name: version} of every `name==version` line, whatever comment follows; pip does not distinguish PyVirtualDisplay's capitals."""
    matches = (re.match(r"([A-Za-z0-9_.-]+)==(\S+)", line) for line in lines)
    return {match[1].lower(): match[2] for match in matches if match}


def test_badges_install_cells_and_readme_table_are_up_to_date():
    stale = [path.name for path, wanted in badges.derived_files().items() if path.read_text(encoding="utf-8") != wanted]
    assert stale == [], "run `make badges`"


def test_every_badge_opens_a_notebook_that_exists():
    for path in [ROOT / "README.md", *(ROOT / "notebooks").glob("*.ipynb")]:
        opened = re.findall(r"(?:blob/main/|doc/tree/)([\w/]+\.ipynb)", path.read_text(encoding="utf-8"))
        assert opened, path.name
        assert [name for name in opened if not (ROOT / name).is_file()] == []


def test_the_address_is_written_once():
    address = PYPROJECT["project"]["urls"]["Repository"]
    derived = {"pyproject.toml", "README.md", "test_repository.py"}
    by_hand = [
        path.name
        for path in tracked_files()
        if path.suffix != ".ipynb" and path.name not in derived and address.encode() in path.read_bytes()
    ]
    assert by_hand == []


def test_links_in_the_documentation_point_at_files():
    for name in ("README.md", "CONTRIBUTING.md", "docs/instructors.md"):
        headings = {
            "#" + re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-")
            for title in re.findall(r"^#+ (.+)$", text(name), re.MULTILINE)
        }
        targets = set(re.findall(r"\]\(([^):]+)\)", text(name))) - headings
        assert [target for target in targets if not (ROOT / name).parent.joinpath(target).exists()] == []


def test_every_make_target_that_the_documentation_names_exists():
    targets = {name for names in re.findall(r"^([a-z -]+):", text("Makefile"), re.MULTILINE) for name in names.split()}
    named = {name for file in ("README.md", "CONTRIBUTING.md") for name in re.findall(r"\bmake ([a-z-]+)\b", text(file))}
    assert named <= targets | {"sure"}


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-test.txt"])
def test_direct_dependencies_are_pinned_explained_and_the_ones_installed(name):
    lines = [line for line in text(name).splitlines() if line and not line.startswith(("#", "-c"))]
    assert [line for line in lines if not re.fullmatch(r"[\w.-]+==\S+ +# .+", line)] == []
    constraints = pins(text("constraints.txt").splitlines())
    assert {name: version for name, version in pins(lines).items() if constraints.get(name) != version} == {}


def test_binder_has_the_versions_of_the_course():
    course = pins(text("requirements.txt").splitlines())
    binder = pins(text("binder/requirements.txt").splitlines()) | pins(re.findall(r"[\w-]+==[\w.]+", text("binder/postBuild")))
    assert {name: version for name, version in binder.items() if course.get(name) != version} == {}
    assert {"torch", "gymnasium", "pygame-ce"} <= set(binder)
    # A reference to another file would tie the dependency layer to every commit.
    assert not re.search(r"^(-r|-c|-e|\.)", text("binder/requirements.txt"), re.MULTILINE)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no executable bit")
@pytest.mark.parametrize("script", ["binder/postBuild", "binder/start", ".ci/run"])
def test_scripts_are_executable_and_parse(script):
    assert os.access(ROOT / script, os.X_OK)
    subprocess.run(["bash", "-n", str(ROOT / script)], check=True)


def test_core_needs_neither_pygame_nor_gymnasiums_extra():
    core = PYPROJECT["project"]["dependencies"]
    assert [requirement for requirement in core if "[" in requirement or "pygame" in requirement] == []


def modules():
    """{dotted name below the package: its file}; an `__init__` is named as its folder, the package's own is left out."""
    paths = {path.relative_to(PACKAGE).with_suffix("").parts: path for path in PACKAGE.rglob("*.py")}
    return {".".join(parts[:-1] if parts[-1] == "__init__" else parts): path for parts, path in paths.items() if parts != ("__init__",)}


def imports_of(module, path):
    """Names of the package's modules that the code of `module` imports, wherever in it; those that only type checkers import left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for guard in ast.walk(tree):
        if isinstance(guard, ast.If) and getattr(guard.test, "id", "") == "TYPE_CHECKING":
            guard.body = []
    importer = f"cartpole_lessons.{module}" + (".__init__" if path.name == "__init__.py" else "")
    found = imports(tree, importer, ["cartpole_lessons"])
    return {name.removeprefix("cartpole_lessons.") for name in found} & set(modules()) - {module}


def test_every_module_has_a_floor_and_every_floor_is_there():
    assert set(FLOOR_OF) == {name.split(".")[0] for name in modules()}


def test_imports_run_down_the_floors():
    upward = [
        f"{module} imports {target}"
        for module, path in modules().items()
        for target in imports_of(module, path)
        if FLOOR_OF[target.split(".")[0]] > FLOOR_OF[module.split(".")[0]]
    ]
    assert upward == []


def test_no_two_modules_import_each_other_by_any_way_round():
    # That a package's `__init__` names what is in it is no circle: its modules do not import from it.
    graph = {module: imports_of(module, path) for module, path in modules().items()}
    TopologicalSorter(graph).prepare()  # raises CycleError, which names the circle


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)], cwd=ROOT, check=True, capture_output=True
    )
    (path,) = folder.glob("*.whl")
    return path


def test_wheel_holds_the_package_and_nothing_else(wheel):
    assert wheel.stat().st_size < 1_000_000
    names = zipfile.ZipFile(wheel).namelist()
    assert "cartpole_lessons/cartpole.mplstyle" in names
    assert "cartpole_lessons/algorithms/policy_gradient.py" in names
    assert [name for name in names if not name.startswith(("cartpole_lessons/", "cartpole_lessons-"))] == []
    assert [name for name in names if "test" in name or name.endswith(".ipynb")] == []


#: Modules that reach into the network, or run what they are given.
NOT_IMPORTED = {
    *("aiohttp", "ftplib", "http", "httpx", "imaplib", "poplib", "requests", "smtplib", "socket", "socketserver", "ssl", "telnetlib"),
    *("urllib", "urllib3", "webbrowser", "xmlrpc", "cloudpickle", "dill", "marshal", "pickle", "shelve", "pty", "sentry_sdk", "wandb"),
}
#: Where a display is named, the X server is asked whether it is there.
ALLOWED = {("display.py", "socket")}
NOT_CALLED = {"os.system", "os.popen", "eval", "exec", "compile", "__import__", "torch.load", "joblib.load", "np.fromfile"}


def harmful_in(name, source):
    """What the code `source` of the file `name` imports or calls that a course should not; each as a word or two."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            tops = {module.partition(".")[0] for module in modules if not getattr(node, "level", 0)}
            found += [f"import {top}" for top in sorted(tops & NOT_IMPORTED) if (Path(name).name, top) not in ALLOWED]
        elif isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            found += [called] if called in NOT_CALLED else []
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            found += [f"{argument}=True" for argument in ("shell", "allow_pickle") if given.get(argument, "False") != "False"]
    return found


def test_wheel_reaches_no_network_runs_no_shell_and_loads_no_pickle(wheel):
    archive = zipfile.ZipFile(wheel)
    code = {name: archive.read(name).decode() for name in archive.namelist() if name.endswith(".py")}
    assert len(code) > 20
    assert {name: found for name, source in code.items() if (found := harmful_in(name, source))} == {}
    # It calls the display that DISPLAY names, and nobody else.
    assert re.findall(r"create_connection\(\((.+?), 6000 \+", code["cartpole_lessons/display.py"]) == ['host.strip("[]")']


def test_wheel_holds_no_secret_and_nobodys_paths(wheel):
    archive = zipfile.ZipFile(wheel)
    secret = re.compile(
        rb"-----BEGIN|AKIA[0-9A-Z]{16}|gh[pousr]_[A-Za-z0-9]{20}|xox[abp]-|(?i:password|api_?key|secret|token)\s*[=:]\s*[\"'][^\"']+|/home/\w|/Users/\w"
    )
    assert {name: found[0] for name in archive.namelist() if (found := secret.search(archive.read(name)))} == {}


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("import urllib.request", ["import urllib"]),
        ("def f():\n    from http.client import HTTPSConnection", ["import http"]),
        ("import socket", ["import socket"]),
        ("import subprocess\nsubprocess.run('ls', shell=True)", ["shell=True"]),
        ("os.system('ls')", ["os.system"]),
        ("eval('1')", ["eval"]),
        ("np.load(path, allow_pickle=flag)", ["allow_pickle=True"]),
        ("policy.eval()\nfrom .http import x\nnp.load(path, allow_pickle=False)", []),
    ],
)
def test_the_search_of_the_wheel_finds_what_it_looks_for(source, found):
    assert harmful_in("module.py", source) == found


def test_importing_the_package_is_light():
    code = "import sys, cartpole_lessons; print(sorted({'torch', 'gymnasium', 'matplotlib', 'pygame', 'pandas'} & set(sys.modules)))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_what_every_lesson_imports_is_light():
    """Training, evaluating and filming need torch and Gymnasium; what takes long to import waits until something is drawn or shown."""
    heavy = ["matplotlib", "IPython", "pandas", "scipy", "moviepy", "pygame", "PIL", "imageio_ffmpeg"]
    modules = ["algorithms.policy_gradient", "checkpoints", "continuous", "evaluation", "plots", "training", "video"]
    code = f"import sys, {', '.join(f'cartpole_lessons.{name}' for name in modules)}; print([m for m in {heavy} if m in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"
