"""Grading: 300 notebooks that mean harm get no mark that they do not deserve and stop nothing, and some forty honest ones get theirs, twice the same (`make test-grade`)."""

import collections
import csv
import hashlib
import inspect
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest
from scratch import ROOT

from cartpole_lessons.exercises import Exercise
from cartpole_lessons.grading import exercises_in, has_walls, modules_with_exercises

pytestmark = pytest.mark.skipif(not has_walls(), reason="this system has no namespaces for us")

COURSE = "from cartpole_lessons.exercises import lesson_06 as exercise"
WRONG = "def answer(rewards, terminated, next_values, discount):\n    return rewards"
CHECK = "exercise.td_targets.check(answer)"
#: What a notebook that has nothing right hands in.
HANDED_IN = [COURSE, WRONG, CHECK, "exercise.ceiling.check(7)"]
RIGHT = "def answer(rewards, terminated, next_values, discount):\n    return rewards + discount * next_values.max(1).values * ~terminated"
CLAIM = "Right. points: 1. 06.td_targets right, 06.ceiling right"
MINUTES = 10  # in which all hostile notebooks have to be graded, on two cores that do nothing else

#: Kind -> its variants, each a list of cells. PORT, ROOT and OUTSIDE stand for the test's own.
CELLS = {
    "fork bomb": [["import os\nwhile True:\n    os.fork()"], ["import subprocess\nwhile True:\n    subprocess.Popen(['sleep', '98765'])"]],
    "memory hog": [
        ["hoard = []\nwhile True:\n    hoard.append(bytes(50_000_000))", "hoard = 'x' * 10**11"],
        ["import mmap\nhoard = [mmap.mmap(-1, 10**8) for _ in range(100)]\nfor one in hoard:\n    one.write(bytes(10**8))\nimport time; time.sleep(99)"],
        [
            "import os, time\nfor _ in range(400):\n    file = os.memfd_create('x')\n"
            "    for _ in range(9):\n        os.write(file, bytes(10**7))\ntime.sleep(99)"
        ],
    ],
    "full folder": [
        [
            "import os\nfor number in range(10**6):\n    with open(str(number), 'wb') as file:\n        file.write(bytes(10**7))",
            "for number in range(10**6):\n    os.mkdir(f'folder-{number}')",
        ]
    ],
    "endless cell": [
        ["while True:\n    pass"],
        ["import time\nwhile True:\n    try:\n        time.sleep(9)\n    except BaseException:\n        pass"],
        ["print('x' * 1000)\nwhile True:\n    print('x' * 1000)"],
    ],
    "endless function": [
        [COURSE, "def answer(*given):\n    while True:\n        pass", CHECK],
        [COURSE, "def answer(*given):\n    while True:\n        try:\n            9 ** 9\n        except BaseException:\n            pass", CHECK],
        [COURSE, "import itertools\nexercise.td_targets.check(lambda *given: sum(itertools.count()))"],
    ],
    "leaves": [
        ["import os; os._exit(0)", *HANDED_IN],
        [COURSE, "import os\nexercise.td_targets.check(lambda *given: os._exit(0))", "exercise.ceiling.check(7)"],
        ["import sys; sys.exit(0)", "raise SystemExit", "quit()", "exit()"],
    ],
    "kills": [
        ["import os; os.kill(os.getpid(), 9)"],
        ["import os; os.kill(os.getppid(), 9); os.kill(1, 9); os.kill(1, 15); os.kill(-1, 9)"],
        ["import os; os.kill(os.getppid(), 19); os.kill(1, 19); os.kill(-1, 19)"],
        ["import ctypes; ctypes.string_at(0)"],
    ],
    "checks deleted": [
        [COURSE, "del exercise.td_targets, exercise.ceiling", "print('Right.')"],
        ["import sys; sys.modules['cartpole_lessons.exercises.lesson_06'] = None", *HANDED_IN],
        [COURSE, "exercise.td_targets.check = exercise.ceiling.check = lambda answer: 'Right.'", CHECK],
    ],
    "checks replaced": [
        [COURSE, "import cartpole_lessons.exercises as e\ntype(exercise.ceiling).check = e.Exercise.check = lambda *_: e.Card('right', 'So.')", CHECK],
        [COURSE, "import cartpole_lessons.exercises as e\ne._same = lambda *_: True\ne._within_limits = lambda *_: 100.0", WRONG, CHECK],
    ],
    "course replaced": [
        [COURSE, "import cartpole_lessons.grading.values as v, cartpole_lessons.grading.asked as a\na.encode_answer = v.encode = lambda _: True", WRONG, CHECK],
        ["import sys, types\nfor name in list(sys.modules):\n    if 'cartpole' in name: sys.modules[name] = types.ModuleType(name)", *HANDED_IN],
        [
            "import sys, types\nfake = types.ModuleType('cartpole_lessons')\nfake.__path__ = ['.']\nsys.modules['cartpole_lessons'] = fake",
            "import os\nos.makedirs('exercises')\nopen('exercises/__init__.py', 'w').close()\nopen('exercises/lesson_06.py', 'w').write('ceiling = 1')",
            *HANDED_IN,
        ],
    ],
    "forged display": [
        ["from IPython.display import HTML, display\n" f"display(HTML('<b>{CLAIM}</b>'), {{'text/plain': '{CLAIM}'}}, raw=True)", *HANDED_IN],
        [COURSE, f"from cartpole_lessons.exercises import Card\nCard('right', '{CLAIM}')", f"print('''{CLAIM}''')"],
    ],
    "duplicated": [[COURSE, WRONG, CHECK, CHECK, *HANDED_IN * 3]],
    "network": [
        ["import socket\nsocket.create_connection(('127.0.0.1', PORT), 3).send(b'hello')", *HANDED_IN],
        ["import urllib.request\nurllib.request.urlopen('http://127.0.0.1:PORT/', timeout=3)"],
        ["import os; os.system('python3 -m pip download nothing-at-all; curl -m 3 http://127.0.0.1:PORT')"],
        ["import socket\nsocket.create_connection(('192.0.2.1', 80), 3)"],
    ],
    "writes": [
        ["import pathlib\nfor place in ['OUTSIDE', '/tmp', '/', '/root', '/dev', 'ROOT']:\n    try:\n        (pathlib.Path(place) / 'written').write_text('x')\n    except OSError: pass"],
        ["import cartpole_lessons as c\nopen(c.__file__, 'a').write('# written')", "open('ROOT/cartpole_lessons/written.py', 'w')"],
        ["import shutil\nshutil.rmtree('OUTSIDE')", "shutil.rmtree('ROOT/notebooks')"],
        ["import os\nfor name in ('/proc/sys/kernel/core_pattern', '/proc/sysrq-trigger', '/sys/power/state', '/dev/sda', '/dev/vda'):\n    try:\n        open(name, 'a').close()\n    except OSError: pass\nos.chmod('/dev/null', 0)"],
        ["import os; os.system('unshare -Um sh -c \"mount -o remount,bind,rw /; umount -a; echo x >OUTSIDE/written; rm -rf OUTSIDE\"')"],
    ],
    "looks for solutions": [
        [COURSE, "answer = exercise.td_targets._solution", CHECK, "exercise.ceiling.check(exercise.ceiling._answer)"],
        [COURSE, "import inspect\nprint(inspect.getsource(exercise))", "answer = exercise._td_targets", CHECK],
        [
            COURSE,
            "import pathlib, re\ntext = next(p.read_text() for p in pathlib.Path('ROOT').rglob('*lesson_06*.py') if '_td_targets' in p.read_text())\n"
            "answer = re.search(r'def (_td.*?)\\n\\n\\n', text, re.DOTALL)[0]\nexec(answer)\nexercise.td_targets.check(_td_targets)",
        ],
        [
            COURSE,
            "for place in ('OUTSIDE/../class/solution.py', 'OUTSIDE/../grades.csv'):\n    try:\n        exec(open(place).read())\n"
            "        break\n    except OSError:\n        pass",
            CHECK,
        ],
    ],
    "left behind": [
        ["import threading\nfor _ in range(20):\n    threading.Thread(target=lambda: [None for _ in iter(int, 1)]).start()"],
        ["import subprocess\nsubprocess.Popen(['setsid', 'nohup', 'sleep', '98765'], start_new_session=True)", *HANDED_IN],
        ["import os\nif os.fork() == 0:\n    os.setsid()\n    if os.fork() == 0:\n        import time\n        time.sleep(98765)\n    os._exit(0)"],
    ],
    "ten thousand cells": [[*HANDED_IN, *["x = 1"] * 10_000]],
    "forged messages": [
        ["import os, json\nos.write(int(os.environ['GRADER_HEARS']), b'{\"over\": \"right\"}\\n')", *HANDED_IN],
        ["import os\nos.write(int(os.environ['GRADER_HEARS']), b'{\"name\": \"06.ceiling\", \"state\": \"right\", \"points\": 1}\\n')"],
        ["import os\nos.write(int(os.environ['GRADER_HEARS']), b'[' * 60_000 + b'\\n')"],
        ["import os\nwhile True: os.write(int(os.environ['GRADER_HEARS']), b'x' * 60_000)"],
        ["import os\nwhile True: os.write(int(os.environ['GRADER_HEARS']), b'{\"name\": \"06.ceiling\", \"value\": 7}\\n' * 100)"],
        ["import os\nos.close(int(os.environ['GRADER_HEARS'])); os.close(int(os.environ['GRADER_ASKS']))", *HANDED_IN],
        ["import os\nos.write(int(os.environ['GRADER_HEARS']), b'{\"name\": \"06.td_targets\", \"function\": 1}\\n{\"value\": {\"tensor\": [1], \"dtype\": \"torch.int64\", \"shape\": [1, -7]}, \"changed\": []}\\n')"],
    ],
    "odd answers": [
        [COURSE, "class Same:\n    def __eq__(self, other): return True\n    def __float__(self): return 100.0\n    def __call__(self, *g): return self\n    __sub__ = __rsub__ = lambda *_: 0.0", "exercise.td_targets.check(Same())", "exercise.ceiling.check([Same()])"],
        [COURSE, "exercise.ceiling.check(10 ** 400)", "exercise.td_targets.check(lambda *g: float('nan'))"],
        [COURSE, "deep = []\nfor _ in range(100_000): deep = [deep]", "exercise.ceiling.check(deep)", "exercise.td_targets.check(lambda *g: deep)"],
        [COURSE, "import torch", "exercise.td_targets.check(lambda *g: torch.zeros(10**7))", "exercise.ceiling.check(lambda: 100)"],
        [COURSE, "class Liar(str):\n    def __len__(self): return 0\n    def __repr__(self): raise SystemExit", "exercise.ceiling.check(Liar('x'))", "exercise.td_targets.check(lambda *g: Liar())"],
    ],
    "guesses": [[COURSE, "for guess in range(300):\n    exercise.ceiling.check(guess)", "for part in range(50):\n    exercise.td_targets.check(lambda r, *_: r * part)"]],
}  # fmt: skip
#: Kinds that are something else than cells.
FILES = ("claims in outputs", "no metadata", "not JSON", "empty", "not UTF-8", "large outputs", "no file")


def notebook(cells, **more):
    """A notebook's JSON, as a front end writes it."""
    made = [{"cell_type": "code", "source": cell, "metadata": {}, "outputs": [], "execution_count": None, "id": "same"} for cell in cells]
    return json.dumps({"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5} | more)


def write_odd(kind, path, outside):
    """A file that no front end would write."""
    claims = [{"output_type": "stream", "name": "stdout", "text": CLAIM}, {"output_type": "display_data", "data": {"text/html": CLAIM}}]
    cell = {"cell_type": "code", "source": CHECK, "outputs": claims, "metadata": {"grade": "right", "points": 1}}
    number = int(path.stem.rpartition(" ")[2])
    match kind:
        case "claims in outputs":
            path.write_text(json.dumps({"cells": [cell] * 3, "metadata": {"grades": CLAIM}, "nbformat": 4, "nbformat_minor": 5}))
        case "no metadata":
            odd = [
                {"cells": [{"cell_type": "code"}, {"source": 3}, None, {"cell_type": "code", "source": HANDED_IN}]},
                {"cells": {}},
                [],
                {"cells": None},
            ]
            path.write_text(json.dumps(odd[number % len(odd)]))
        case "not JSON":
            path.write_text([notebook(HANDED_IN)[:-30], "[" * 10**6, "right", "{'cells': []}", '{"cells": NaN}'][number % 5])
        case "empty":
            path.touch()
        case "not UTF-8":
            path.write_bytes([notebook(HANDED_IN).encode("utf-16"), bytes(range(256)) * 99, b'{"cells": ["\xff\xfe"]}'][number % 3])
        case "large outputs":
            path.write_text(notebook(HANDED_IN).replace('"outputs": []', f'"outputs": ["{"x" * 100_000_000}"]', 1))
        case "no file":
            match number % 4:
                case 0:
                    path.mkdir()
                case 1:
                    path.symlink_to(outside / "right.txt")
                case 2:
                    path.symlink_to("/dev/zero")
                case 3:
                    os.mkfifo(path)


def write_hostile(folder, outside, port, count=300):
    """`count` notebooks of all kinds, their variants in turn; {name: kind}."""
    kinds = {}
    all_kinds = [*CELLS, *FILES]
    for number in range(count):
        kind = all_kinds[number % len(all_kinds)]
        turn = number // len(all_kinds)
        path = folder / f"{kind} {turn}.ipynb"
        kinds[path.name] = kind
        if kind in FILES:
            write_odd(kind, path, outside)
        else:
            cells = CELLS[kind][turn % len(CELLS[kind])]
            filled = [cell.replace("PORT", str(port)).replace("ROOT", str(ROOT)).replace("OUTSIDE", str(outside)) for cell in cells]
            path.write_text(notebook(filled), encoding="utf-8")
    return kinds


def honest():
    """{name: (cells, {exercise: state})}: what students really hand in."""
    made = {}
    for name, module in modules_with_exercises().items():
        cells, marks = ["import math, numpy as np, torch", f"from cartpole_lessons.exercises import {name} as exercise"], {}
        for variable, each in exercises_in(module).items():
            marks[each.name] = "right"
            if isinstance(each, Exercise):
                cells += [inspect.getsource(each._solution), f"exercise.{variable}.check({each._solution.__name__})"]
            else:
                cells.append(f"exercise.{variable}.check({each._answer!r})")
        made[f"all right {name}"] = cells, marks

    def add(name, cells, targets, ceiling):
        made[name] = [COURSE, *cells], {"06.td_targets": targets, "06.ceiling": ceiling}

    start = "def answer(rewards, terminated, next_values, discount):\n    return "
    loop = "[float(r) + (0 if t else discount * max(map(float, v))) for r, t, v in zip(rewards, terminated, next_values)]"
    styles = {
        "tensors": "rewards + discount * next_values.amax(dim=-1) * (1 - terminated.float())",
        "where": "rewards + __import__('torch').where(terminated, 0.0, discount * next_values.max(1).values)",
        "a loop": loop,
        "a tuple": f"tuple({loop})",
        "a generator": f"(one for one in {loop})",
        "NumPy": "rewards.numpy() + discount * next_values.numpy().max(1) * ~terminated.numpy()",
    }
    for name, style in styles.items():
        add(f"right with {name}", [start + style, CHECK, "exercise.ceiling.check(1 / (1 - 0.99))"], "right", "right")
    mistakes = {
        "mean": "rewards + discount * next_values.mean(1) * ~terminated",
        "future": "rewards + discount * next_values.max(1).values",
        "discount": "rewards + next_values.max(1).values * ~terminated",
        "argmax": "rewards + discount * next_values.argmax(1) * ~terminated",
        "all zero": "(rewards + discount * next_values.max(1).values) * ~terminated",
        "whole batch": "rewards + discount * next_values.max() * ~terminated",
        "inverted": "rewards + discount * next_values.max(1).values * terminated",
        "typo": "reward",
        "in place": "rewards.add_(discount * next_values.max(1).values * ~terminated)",
    }
    for name, mistake in mistakes.items():
        state = "error" if name == "typo" else "wrong"
        add(f"mistake {name}", [start + mistake, CHECK, "exercise.ceiling.check(50)"], state, "wrong")
    right = [RIGHT, CHECK, "exercise.ceiling.check(100)"]
    add("not attempted", [start + "...", CHECK, "exercise.ceiling.check(...)"], "missing", "missing")
    add("only read", ["print('hello')"], "missing", "missing")
    add("half", right[:2], "right", "missing")
    add("copied", right * 3, "right", "right")
    # Lesson 00's photograph: there is no screen in the sandbox, and it has to say so rather than wait for one.
    screen = "from cartpole_lessons.display import virtual_display\ntry:\n    with virtual_display(): pass\nexcept ImportError: pass"
    add("moved", [right[2], right[0], screen, right[1]], "right", "right")
    add("renamed", [RIGHT.replace("answer", "my_targets"), "exercise.td_targets.check(my_targets)", right[2]], "right", "right")
    add(
        "renamed module",
        ["import cartpole_lessons.exercises.lesson_06 as mine", RIGHT, "mine.td_targets.check(answer)"],
        "right",
        "missing",
    )
    add("better at last", [WRONG, CHECK, "exercise.ceiling.check(7)", *right], "right", "right")
    add("worse at last", [*right, WRONG, CHECK, "exercise.ceiling.check(7)"], "wrong", "wrong")
    add("cleared at last", [*right, "exercise.td_targets.check(...)"], "right", "right")
    return made


def run(folder, table, *options):
    """What the command printed, its rows, its seconds, and how much less memory was to be had while it ran [bytes]."""
    command = [sys.executable, "-m", "cartpole_lessons", "grade", str(folder), "--csv", str(table), "--workers", "2", *options]
    before = least = psutil.virtual_memory().available
    started = time.monotonic()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT) as grader:
        said = []
        reader = threading.Thread(target=lambda: said.append(grader.stdout.read()))
        reader.start()
        while grader.poll() is None:
            least = min(least, psutil.virtual_memory().available)
            time.sleep(0.2)
        reader.join()
    assert grader.returncode == 0, said[0][-3000:]
    with open(table, encoding="utf-8", newline="") as file:
        return said[0], list(csv.DictReader(file)), time.monotonic() - started, before - least


def lying_about(*folders):
    """What must be afterwards as it was: files with their content, temporary folders, and processes of notebooks."""
    files = {path: hashlib.sha256(path.read_bytes()).hexdigest() for folder in folders for path in folder.rglob("*") if path.is_file()}
    temporary = {name for name in os.listdir(tempfile.gettempdir()) if name.startswith("cartpole-") or name == "written"}
    processes = set()
    for process in psutil.process_iter(["pid", "cmdline"]):
        line = " ".join(process.info["cmdline"] or [])
        if "cartpole-grade-" in line or "sleep 98765" in line:
            processes.add((process.info["pid"], line))
    return {"files": files, "temporary": temporary, "processes": processes, "mode of /dev/null": os.stat("/dev/null").st_mode}


def test_hostile_notebooks_gain_nothing_and_stop_nothing(tmp_path, capsys):
    folder, outside = tmp_path / "class", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    # What stands beside notebooks, and what an earlier run has written, is none of a notebook's business.
    (folder / "solution.py").write_text(RIGHT, encoding="utf-8")
    (tmp_path / "grades.csv").write_text(RIGHT, encoding="utf-8")
    (outside / "right.txt").write_text(notebook([COURSE, RIGHT, CHECK, "exercise.ceiling.check(100)"]), encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as server:
        kinds = write_hostile(folder, outside, server.getsockname()[1])
        watched = [outside, ROOT / "cartpole_lessons", ROOT / "notebooks", ROOT / "tests"]
        before = lying_about(*watched)
        disk, memory = psutil.disk_usage(str(tmp_path)).free, psutil.virtual_memory().available
        load = os.getloadavg()[0] / os.cpu_count()
        said, rows, seconds, peak = run(folder, tmp_path / "grades.csv", "--lesson", "06", "--seconds", "10", "--memory", "1.5")
        server.setblocking(False)
        with pytest.raises(BlockingIOError):  # nobody has called
            server.accept()
    after = lying_about(*watched)
    states = {}
    for row in rows:
        states.setdefault(kinds[row["notebook"]], collections.Counter())[row["state"]] += 1
    with capsys.disabled():
        print()
        for kind, counted in states.items():
            print(f"  {kind}: " + ", ".join(f"{number} {state}" for state, number in sorted(counted.items())))
        wrong = [row for row in rows if row["state"] == "right"]
        print(
            f"{len(kinds)} hostile notebooks of {len(states)} kinds, {len(rows)} rows, {len(wrong)} wrongly right, {seconds:.0f} s "
            f"(load per core before: {load:.1f}), {peak / 1e9:.1f} GB of memory at most"
        )
    assert wrong == []
    assert collections.Counter(row["notebook"] for row in rows) == dict.fromkeys(kinds, 2), "a row per exercise, for each notebook"
    assert [row for row in rows if not row["reason"]] == []
    assert [row for row in rows if "grader itself" in row["reason"]] == []
    assert f"{len(kinds)} notebooks" in said
    assert after == before
    assert psutil.disk_usage(str(tmp_path)).free > disk - 100_000_000
    assert psutil.virtual_memory().available > memory - 1_000_000_000
    if load < 0.5:  # otherwise it says how busy others are
        assert seconds < 60 * MINUTES


def test_a_notebook_that_the_grader_dies_of_costs_no_other_its_marks(tmp_path):
    """Its worker dies while it judges. That is no fault of those beside it, nor of those that wait."""
    before = lying_about()
    (tmp_path / "deadly.py").write_text(
        "import os\nfrom cartpole_lessons.exercises import Exercise, Prediction\n"
        "one = Exercise('deadly.one', lambda x: os.kill(os.getpid(), 9), inputs=[(1,)], mistakes={}, hints=[''], shows='')\n"
        "seven = Prediction('deadly.seven', 7, hints=[''], shows='Just so.')\n",
        encoding="utf-8",
    )
    folder = tmp_path / "class"
    folder.mkdir()
    for name, cell in dict.fromkeys("abde", "exercise.seven.check(7)").items() | {("c", "exercise.one.check(lambda x: x)")}:
        (folder / f"{name}.ipynb").write_text(notebook(["import deadly as exercise", cell]), encoding="utf-8")
    _, rows, _, _ = run(folder, tmp_path / "grades.csv", "--exercises", str(tmp_path / "deadly.py"), "--lesson", "deadly")
    states = {(row["notebook"][0], row["exercise"].partition(".")[2]): row["state"] for row in rows}
    fine = {(name, exercise): state for name in "abde" for exercise, state in (("one", "missing"), ("seven", "right"))}
    assert states == fine | {("c", "one"): "error", ("c", "seven"): "error"}
    assert lying_about() == before


def test_a_grader_that_is_killed_leaves_nothing_that_runs(tmp_path):
    folder = tmp_path / "class"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.ipynb").write_text(notebook(["while True:\n    pass"]), encoding="utf-8")
    before = lying_about()
    command = [sys.executable, "-m", "cartpole_lessons", "grade", str(folder), "--csv", str(tmp_path / "grades.csv"), "--workers", "2"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT) as grader:
        started = time.monotonic()
        while sum("ipykernel" in line for _, line in lying_about()["processes"] - before["processes"]) < 2:
            assert grader.poll() is None
            assert time.monotonic() - started < 120
            time.sleep(0.2)
        family = psutil.Process(grader.pid).children(recursive=True)
        assert len(family) > 4
        grader.kill()
    _, left = psutil.wait_procs(family, timeout=10)
    assert left == []
    assert lying_about()["processes"] == before["processes"]
    for name in lying_about()["temporary"] - before["temporary"]:  # a killed process cannot tidy up
        shutil.rmtree(Path(tempfile.gettempdir()) / name)


def test_honest_notebooks_get_their_marks_twice_the_same(tmp_path, capsys):
    known = honest()
    folder = tmp_path / "class"
    folder.mkdir()
    for name, (cells, _) in known.items():
        (folder / f"{name}.ipynb").write_text(notebook(cells), encoding="utf-8")
    _, first, seconds, peak = run(folder, tmp_path / "first.csv")
    _, second, _, _ = run(folder, tmp_path / "second.csv")
    marks = {(row["notebook"].removesuffix(".ipynb"), row["exercise"]): row["state"] for row in first}
    expected = {(name, exercise): state for name, (_, states) in known.items() for exercise, state in states.items()}
    off = {key: (marks.get(key), expected.get(key)) for key in marks.keys() | expected.keys() if marks.get(key) != expected.get(key)}
    with capsys.disabled():
        print(
            f"\n{len(known)} honest notebooks, {len(marks)} marks, {len(off)} not as known, {seconds:.0f} s, {peak / 1e9:.1f} GB of memory at most"
        )
    assert off == {}
    assert len(known) == 41
    assert [row | {"seconds": ""} for row in first] == [row | {"seconds": ""} for row in second]
