"""Run by the doctor as a program of its own, where what crashes may crash: load modules, and start matplotlib's backend.

The arguments are the path to look along, as JSON, and the modules; the answer is the last line, in JSON.
"""

import contextlib
import importlib
import io
import json
import os
import sys
from importlib.machinery import BuiltinImporter, FrozenImporter

sys.path[:] = json.loads(sys.argv[1])
backend = os.environ.pop("MPLBACKEND", "")  # matplotlib itself would fail at one that it does not know
broken, backend_error = {}, ""
with contextlib.redirect_stdout(io.StringIO()):
    for name in sys.argv[2:]:
        print(name, file=sys.__stdout__, flush=True)  # the last one is to blame where no answer comes
        try:
            importlib.import_module(name)
        except BaseException as error:
            broken[name] = f"{type(error).__name__}: {error}"
    if "matplotlib" in {*sys.argv[2:]} - {*broken}:
        try:
            from matplotlib import pyplot, rcParams

            pyplot.switch_backend(backend or rcParams["backend"])
        except Exception as error:
            backend_error = f"{type(error).__name__}: {error}"
# Whatever was looked for on the path: a file of the student's own could have been taken for it.
inside = (BuiltinImporter, FrozenImporter)
loaded = [name for name in sys.modules if "." not in name and not any(importer.find_spec(name) for importer in inside)]
print(json.dumps({"broken": broken, "loaded": loaded, "backend_error": backend_error}))
