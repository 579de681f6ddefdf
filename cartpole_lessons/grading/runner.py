"""The first process of a sandbox: `runner.py ASKS HEARS LIMITS` reads a notebook from its standard input and runs its code in a kernel.

Run as a script by the sandbox, not imported: it loads nothing of the course, so that it starts quickly.
"""

import json
import os
import resource
import select
import sys
import threading

# It takes jsonschema a second to load this for checking addresses, of which notebooks have none.
sys.modules["rfc3987_syntax"] = None


def code_in(notebook: dict) -> list[str]:
    """Source of each code cell. Nothing else of a notebook is used: metadata may be missing or wrong, and outputs are only claims."""
    cells = [cell for cell in notebook["cells"] if isinstance(cell, dict) and cell.get("cell_type") == "code"]
    return ["".join(cell.get("source", "")) for cell in cells]


def first_error(notebook) -> str:
    """What the first cell that failed said."""
    outputs = (output for cell in notebook.cells for output in cell.outputs if output.output_type == "error")
    return next((": ".join(filter(None, [output.ename, output.evalue]))[:300] for output in outputs), "")


def run(sources: list[str], pipes: tuple[int, int]) -> dict[str, str]:
    """Run every cell, also after one that failed; how it ended."""
    import nbformat
    from jupyter_client import AsyncKernelManager
    from nbclient import NotebookClient
    from nbclient.exceptions import DeadKernelError

    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])
    # Sockets in files: there is no network.
    kernel = AsyncKernelManager(kernel_name="python3", transport="ipc", ip=os.path.abspath(".kernel"))
    client = NotebookClient(notebook, km=kernel, allow_errors=True, timeout=None, shutdown_kernel="immediate")  # whatever it still wants
    try:
        client.execute(pass_fds=pipes)
    except DeadKernelError:
        return {"over": "error", "text": "Its kernel died before the end."}
    failed = first_error(notebook)
    return {"over": "error", "text": f"It was not handed in; the first cell that failed said {failed}"} if failed else {"over": "missing"}


def watch(asks: int, seconds: float) -> None:
    """End everything when no grader holds the other end of the pipe any more, or it has not stopped us in time."""
    poll = select.poll()
    poll.register(asks, 0)
    poll.poll(1000 * seconds)
    os._exit(1)


def main() -> None:
    """Take the limits upon itself, which all later processes inherit, then run."""
    asks, hears = map(int, sys.argv[1:3])
    limits = json.loads(sys.argv[3])
    os.nice(10)  # the grader has to stay quick when a notebook fills the machine with processes
    for kind, most in limits["resources"].items():
        resource.setrlimit(getattr(resource, kind), (most, most))
    threading.Thread(target=watch, args=(asks, limits["seconds"] + 5), daemon=True).start()
    try:
        sources = code_in(json.load(sys.stdin))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, MemoryError) as error:
        over = {"over": "error", "text": f"This is no notebook: {type(error).__name__} while reading it."}
    else:
        over = run(sources, (asks, hears))
    os.write(hears, (json.dumps(over) + "\n").encode())


if __name__ == "__main__":
    main()
