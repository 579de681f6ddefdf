"""The repository as a whole: derived files, launch files, versions, floors, and what the wheel holds."""

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FLOORS = {
    0: ["environment", "continuous", "display", "checks", "errors", "files", "seeding", "threads"],
    1: ["policy", "rollout", "evaluation", "checkpoints", "video", "plots", "play"],
    2: ["training", "exercises"],
    3: ["algorithms", "study"],
    4: ["__main__", "cli", "doctor", "report"],
}
FLOOR_OF = {module: floor for floor, modules in FLOORS.items() for module in modules}


def text(path):
    return (ROOT / path).read_text(encoding="utf-8")


def tracked_files():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return [ROOT / name for name in listed.stdout.split("\0") if name and (ROOT / name).is_file()]


def pins(lines):
    """{name: version} of every `name==version` line, whatever comment follows; pip does not distinguish PyVirtualDisplay's capitals."""
    matches = (re.match(r"([A-Za-z0-9_.-]+)==(\S+)", line) for line in lines)
    return {match[1].lower(): match[2] for match in matches if match}


def test_badges_install_cells_and_readme_table_are_up_to_date(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "tools")
    import badges

    stale = [path.name for path, wanted in badges.derived_files().items() if path.read_text(encoding="utf-8") != wanted]
    assert stale == [], "run `make badges`"


def test_every_badge_opens_a_notebook_that_exists():
    for path in [ROOT / "README.md", *(ROOT / "notebooks").glob("*.ipynb")]:
        opened = re.findall(r"(?:blob/main/|lab/tree/)([\w/]+\.ipynb)", path.read_text(encoding="utf-8"))
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
    for name in ("README.md", "CONTRIBUTING.md"):
        targets = re.findall(r"\]\(([^):]+)\)", text(name))
        assert [target for target in targets if not (ROOT / target).exists()] == []


def test_every_make_target_that_the_documentation_names_exists():
    targets = set(re.findall(r"^([a-z-]+):", text("Makefile"), re.MULTILINE))
    named = {name for file in ("README.md", "CONTRIBUTING.md") for name in re.findall(r"\bmake ([a-z-]+)\b", text(file))}
    assert named <= targets | {"sure"}


def test_direct_dependencies_are_pinned_explained_and_the_ones_installed():
    lines = [line for line in text("requirements.txt").splitlines() if line and not line.startswith(("#", "-c"))]
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


def test_imports_run_down_the_floors():
    package = ROOT / "cartpole_lessons"
    upward = []
    for path in package.rglob("*.py"):
        module = path.relative_to(package).parts[0].removesuffix(".py")
        if module == "__init__":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            target = None
            if isinstance(node, ast.ImportFrom) and node.module:
                folder = path.parent if node.level == 1 else package
                absolute = [*folder.relative_to(package).parts, *node.module.split(".")] if node.level else node.module.split(".")[1:]
                target = ".".join(absolute) if node.level or node.module.startswith("cartpole_lessons.") else None
            if target and FLOOR_OF[target.split(".")[0]] > FLOOR_OF[module] and not _only_for_types(path, node):
                upward.append(f"{path.name} imports {target}")
    assert upward == []


def _only_for_types(path, node):
    """True for an import below `if TYPE_CHECKING:`, which never runs."""
    guarded = [
        branch
        for branch in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(branch, ast.If) and getattr(branch.test, "id", "") == "TYPE_CHECKING"
    ]
    return any(branch.lineno < node.lineno <= branch.end_lineno for branch in guarded)


def test_wheel_holds_the_package_and_nothing_else(tmp_path):
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)], cwd=ROOT, check=True, capture_output=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.stat().st_size < 1_000_000
    names = zipfile.ZipFile(wheel).namelist()
    assert "cartpole_lessons/cartpole.mplstyle" in names
    assert "cartpole_lessons/algorithms/policy_gradient.py" in names
    assert [name for name in names if not name.startswith(("cartpole_lessons/", "cartpole_lessons-"))] == []
    assert [name for name in names if "test" in name or name.endswith(".ipynb")] == []


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
