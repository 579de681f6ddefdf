"""Sphinx's settings for the site (`make site`). tools/website.py writes the pages, into build/site-source/."""

import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

import formulas  # noqa: E402
from docutils.nodes import SkipNode  # noqa: E402

ABOUT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

project, author = "CartPole lessons", "The cartpole-lessons maintainers"
copyright = f"{author}, MIT licence"
extensions = ["myst_nb"]
root_doc = "index"
highlight_language = "none"  # of a block that names no language: commands, mostly

# Lessons are shown as they are committed, and nothing in them is a live widget that would ask a network for its scripts.
nb_execution_mode = "off"
nb_ipywidgets_js = {}
nb_merge_streams = True
myst_enable_extensions = ["colon_fence", "dollarmath"]
myst_heading_anchors = 3

html_title = project
html_baseurl = ABOUT["urls"]["Site"]
html_theme = "sphinx_book_theme"
html_logo = html_favicon = "static/cart.svg"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = ["site.js"]
html_math_renderer = "svg"
html_copy_source = html_show_sourcelink = html_show_sphinx = html_use_index = False
# What a page says around a word that was searched for is fetched, and a page from a disk may not fetch.
html_show_search_summary = False
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system is
html_theme_options = {
    "repository_url": ABOUT["urls"]["Repository"],
    "repository_branch": "main",
    "use_repository_button": True,
    "use_download_button": False,
    "launch_buttons": {
        "colab_url": "https://colab.research.google.com",
        "binderhub_url": "https://mybinder.org",
        "notebook_interface": "jupyterlab",
    },
    "logo": {"text": project},
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
    "show_toc_level": 2,
}


def inline_formula(translator, node):
    """A formula among words."""
    translator.body.append(formulas.svg(node.astext()))
    raise SkipNode


def block_formula(translator, node):
    """A formula on a line of its own, which a narrow screen scrolls."""
    translator.body.append(f'<div class="formula">{formulas.svg(node.astext(), block=True)}</div>')
    raise SkipNode


def page_language(app, pagename, templatename, context, doctree):
    """Screen readers ask a page for its language; a folder of notebooks/ is named after one."""
    parts = pagename.split("/")
    if len(parts) == 3 and parts[0] == "notebooks":
        context["language"] = parts[1]


def setup(app):
    app.add_html_math_renderer("svg", (inline_formula, None), (block_formula, None))
    app.connect("html-page-context", page_language)
