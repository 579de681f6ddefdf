"""What the site needs of the lessons: formulas that Matplotlib can draw, and a sentence for each term. (`make test-site` looks at the site itself.)"""

import re

import formulas
import nbformat
import pytest
import reference
from badges import ROOT

LESSONS = sorted((ROOT / "notebooks").rglob("[0-9]*.ipynb"))


def formulas_in(path):
    """(TeX, whether it stands on a line of its own), of a lesson's text."""
    cells = [cell.source for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == "markdown"]
    text = re.sub(r"```.*?```|`[^`]*`", "", "\n\n".join(cells), flags=re.DOTALL)
    return {(block or inline, bool(block)) for block, inline in re.findall(r"\$\$(.+?)\$\$|\$(.+?)\$", text, re.DOTALL)}


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_every_formula_can_be_drawn(path):
    for tex, block in formulas_in(path):
        assert formulas.svg(tex, block=block).startswith('<svg class="formula" role="img"'), tex


def test_a_formula_says_what_it_is_and_has_a_size():
    drawn = formulas.svg(r"a < \tfrac12")
    assert 'aria-label="a &lt; \\tfrac12"' in drawn
    assert float(re.search(r"width:([\d.]+)em", drawn)[1]) > 1


def test_large_fractions_are_those_of_a_line_of_their_own():
    def height(tex, **how):
        return float(re.search(r"height:([\d.]+)em", formulas.svg(tex, **how))[1])

    assert height(r"\frac{a}{b}", block=True) > height(r"\frac{a}{b}")
    assert height(r"\tfrac{a}{b}", block=True) == height(r"\tfrac{a}{b}")
    assert height(r"\frac43") == height(r"\frac{4}{3}")


def test_the_glossary_has_a_sentence_for_every_term():
    page = reference.glossary_page()
    entries = re.findall(r"^(\S.*)\n  (.+) \[Lesson \d\d\]\(\.\./notebooks/\w+\.ipynb\)$", page, re.MULTILINE)
    assert len(entries) > 50
    for term, sentence in entries:
        assert re.search(rf"\*\*{re.escape(term)}(?:e?s)?\*\*", sentence, re.IGNORECASE), term


@pytest.mark.parametrize(
    ("docstring", "markdown"),
    [
        ("What it does.", "What it does."),
        ("Takes `a_b` and a_b.", "Takes `a_b` and a\\_b."),
        ("Plays.\n\nenv: an environment,\nor two. seed: which one", "Plays.\n\n* `env`: an environment, or two. seed: which one"),
        ("Used so:\n\n    play(env)  # at once", "Used so:\n\n```python\nplay(env)  # at once\n```"),
    ],
)
def test_a_docstring_becomes_markdown(docstring, markdown):
    assert reference.prose(docstring) == markdown
