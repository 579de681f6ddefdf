"""The lessons as documents: structure, committed outputs, and the modules that are exported from them."""

import ast
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from changes import FOLLOWS
from conftest import outdated_frames
from nbconvert import PythonExporter

ROOT = Path(__file__).resolve().parent.parent
LESSONS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
ALGORITHMS = ROOT / "cartpole_lessons" / "algorithms"
INSTALL_CELL = """\
try:
    import cartpole_lessons
except ModuleNotFoundError:  # on Colab and the like: install the course's lean core
    %pip install -q "cartpole-lessons @ git+ADDRESS"
    import cartpole_lessons
cartpole_lessons.setup()"""
# What a number in a sentence may be: a seed, a setting or a definition is typed, a result is not.
MEASUREMENT = re.compile(r"\b\d[\d,.]*\s*(?:s|seconds|ms|milliseconds|minutes|kB|MB|%|percent|per cent|times faster)(?![\w/²])")

pytestmark = pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)


@pytest.fixture
def notebook(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook):
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def markdown(notebook):
    return [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]


def test_is_valid_and_asks_for_the_kernel_that_everybody_has(notebook):
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) >= (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"


def test_becomes_a_script_that_python_can_compile(path, notebook):
    script, about = PythonExporter().from_notebook_node(notebook)
    compile(script, path.name, "exec")
    assert notebook.metadata.language_info.nbconvert_exporter == "python"  # so that `nbconvert --to script` makes it
    assert (about["output_extension"], f"# # {path.stem[:2]} " in script) == (".py", True)


def test_opens_with_title_summary_badges_and_objectives(path, notebook):
    first = notebook.cells[0].source
    assert first.startswith(f"# {path.stem[:2]} ")
    assert re.search(r"^> .+\.$", first, re.MULTILINE)
    assert "colab.research.google.com" in first
    assert "mybinder.org" in first
    assert "**After this lesson you can**" in first
    assert re.search(r"take about \d+ seconds", first)


def test_second_cell_installs_the_core_and_calls_setup(notebook):
    source = re.sub(r"git\+[^\"]*", "git+ADDRESS", notebook.cells[1].source)
    assert source == INSTALL_CELL


def test_closes_with_what_to_remember_and_a_next_lesson(notebook):
    last = notebook.cells[-1].source
    assert last.startswith("## What to remember")
    assert "**Next:**" in last


def test_cell_ids_are_readable_and_therefore_stable(notebook):
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    # Jupyter's own ids are eight hexadecimal digits, new ones with every copy.
    assert [
        cell_id for cell_id in ids if not re.fullmatch(r"[a-z]+[a-z0-9]*(-[a-z0-9]+)*", cell_id) or re.fullmatch(r"[0-9a-f]{8}", cell_id)
    ] == []


def test_was_executed_once_from_top_to_bottom_without_an_error(notebook):
    assert [cell.execution_count for cell in code_cells(notebook)] == list(range(1, len(code_cells(notebook)) + 1))
    assert [output for output in outputs(notebook) if output.output_type == "error"] == []


def test_outputs_hold_no_warnings_no_local_paths_and_no_widgets(notebook):
    texts = [str(output.get("text", "")) + str(output.get("data", {}).get("text/plain", "")) for output in outputs(notebook)]
    assert [output.text for output in outputs(notebook) if output.get("name") == "stderr"] == []
    assert [text for text in texts if re.search(r"/home/|/root|/tmp|/work|/Users/|[A-Z]:\\\\|site-packages", text)] == []
    assert "widgets" not in notebook.metadata
    assert [output for output in outputs(notebook) if "application/vnd.jupyter.widget-view+json" in output.get("data", {})] == []


def test_shows_pictures_small_enough_to_load_quickly(path, notebook):
    assert [output for output in outputs(notebook) if "image/png" in output.get("data", {})]
    assert path.stat().st_size < 1_500_000


def test_what_plays_in_the_saved_page_is_the_module_of_today(notebook):
    assert outdated_frames(notebook) == [], "run `make outputs`"


def test_checked_outputs_say_something(notebook):
    for cell in code_cells(notebook):
        if "nbval-check-output" in cell.metadata.get("tags", []):
            assert "".join(output.get("text", "") for output in cell.outputs).strip(), cell.id


def test_prose_holds_no_hand_typed_measurement(notebook):
    derived = re.compile(r"<!-- badges -->.*<!-- /badges -->", re.DOTALL)
    found = [match for source in markdown(notebook) for match in MEASUREMENT.findall(derived.sub("", source))]
    assert found == []


def test_links_to_other_lessons_lead_to_lessons(notebook):
    linked = {name for source in markdown(notebook) for name in re.findall(r"\]\((\w+)\.ipynb\)", source)}
    assert linked <= {lesson.stem for lesson in LESSONS}


def exported_module(path):
    """The generated module of a lesson, None where it exports none."""
    exported = re.search(r"#\| default_exp algorithms\.(\w+)", path.read_text(encoding="utf-8"))
    return ALGORITHMS / f"{exported[1]}.py" if exported else None


@pytest.fixture(scope="session")
def exported_anew(tmp_path_factory):
    """A copy of the repository's layout, into which all lessons were exported."""
    folder = tmp_path_factory.mktemp("exported")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns(".*"))
    shutil.copy(ROOT / "pyproject.toml", folder)
    subprocess.run([sys.executable, str(ROOT / "tools" / "export.py")], cwd=folder, check=True)
    return folder / "cartpole_lessons" / "algorithms"


def test_exporting_again_changes_nothing(path, exported_anew):
    module = exported_module(path)
    if module is None:
        assert "#| export" not in path.read_text(encoding="utf-8")
    else:
        assert (exported_anew / module.name).read_text(encoding="utf-8") == module.read_text(encoding="utf-8"), "run `make export`"


def test_shows_the_whole_algorithm_in_thirty_lines_with_nothing_of_ours_but_the_network(path, notebook):
    module = exported_module(path)
    # LQR has no loop, lesson 13 is lesson 04's many times over, and lesson 16 is lesson 05's with eyes.
    if module is None or module.stem in ("hand_made", "many_seeds", "pixels"):
        return
    (bare,) = (cell for cell in code_cells(notebook) if "bare-loop" in cell.metadata.get("tags", []))
    assert len(bare.source.splitlines()) <= 30
    ours, classes = set(), set()
    for cell in code_cells(notebook):
        for node in ast.parse("\n".join(line for line in cell.source.splitlines() if not line.lstrip().startswith("%"))).body:
            if isinstance(node, ast.ImportFrom) and node.module.startswith("cartpole_lessons"):
                ours |= {alias.asname or alias.name for alias in node.names}
            elif isinstance(node, ast.FunctionDef) and "#| export" in cell.source:
                ours.add(node.name)
            elif isinstance(node, ast.ClassDef):
                classes.add(node.name)
    used = {node.id for node in ast.walk(ast.parse(bare.source)) if isinstance(node, ast.Name)}
    networks = {"PolicyNetwork", "Critic"}  # of lessons before
    assert used & ours - classes - networks == set()
    assert "cartpole_lessons." not in bare.source.replace("cartpole_lessons.continuous", "")


def test_seed_and_steps_of_the_training_that_one_watches_are_parameters_for_papermill(path, notebook):
    module = exported_module(path)
    if module is None or module.stem in ("hand_made", "many_seeds", "pixels"):  # nothing is trained, all seeds at once, or bit by bit
        return
    (parameters,) = (cell for cell in code_cells(notebook) if "parameters" in cell.metadata.get("tags", []))
    assert [node.targets[0].id for node in ast.parse(parameters.source).body] == ["seed", "max_steps"]
    (learn,) = (cell for cell in code_cells(notebook) if cell.id == "learn")
    assert "train(seed=seed, max_steps=max_steps" in learn.source


def test_shows_what_changed_against_the_lesson_before(path, notebook):
    module = exported_module(path)
    if module is not None and module.stem in FOLLOWS:
        (cell,) = (cell for cell in code_cells(notebook) if cell.id == "what-changed")
        assert "what_changed(" in cell.source


def test_exported_functions_state_shapes_and_types(path):
    module = exported_module(path)
    if module is None:
        return
    tree = ast.parse(module.read_text(encoding="utf-8"))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef)]
    members = [*tree.body, *(member for node in classes for member in node.body)]
    public = [node for node in members if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_")]
    assert [node.name for node in public if not ast.get_docstring(node)] == []
    assert [node.name for node in public if isinstance(node, ast.FunctionDef) and node.returns is None] == []
