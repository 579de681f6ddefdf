"""What a visitor sees: the site of `make site`, opened from a disk in a real browser that reaches no network (`make test-site`).

Pictures of every page stay in build/site-pictures/.
"""

import re
import resource
import subprocess
import sys
from urllib.parse import unquote, urlparse

import nbformat
import pytest
from chromium import PLAY, barriers, chromium
from scratch import ROOT

SITE, PICTURES = ROOT / "build" / "site", ROOT / "build" / "site-pictures"
#: A processor's, so that what else a machine does has no say in it.
BUILD_SECONDS = 60
MEGABYTES = 30
FIRST_PAINT = 1500  # milliseconds
#: A browser cannot draw a longer picture.
TALLEST = 12_000
#: What somebody may look for, and a page that has to be among the answers.
PROBES = {
    "bootstrapping": "04_actor_critic",
    "terminated": "00_meet_cartpole",
    "eigenvalue": "01_hand_made_policies",
    "baseline": "02_policy_gradient",
    "ignite": "03_reinforce_with_ignite",
    "entropy": "04_actor_critic",
    "clip": "05_ppo",
    "replay": "06_dqn",
    "dueling": "07_better_dqn",
    "energy": "08_continuous_cartpole",
    "gaussian": "09_gaussian_reinforce",
    "elite": "10_augmented_random_search",
    "bootstrap": "11_comparing_algorithms",
    "mutant": "12_spot_the_bug",
    "profiler": "13_scaling_up",
    "swing": "14_learn_a_model",
    "cloning": "15_teach_it",
    "pixels": "16_from_pixels",
    "grading": "instructors",
    "checkpoint": "command_line",
}
# First contentful paint, in milliseconds after the page was asked for; a page that has loaded may have its first paint still before it.
PAINTED = """async () => {
    for (let waited = 0; waited < 50; waited++) {
        const [paint] = performance.getEntriesByName('first-contentful-paint');
        if (paint) return paint.startTime;
        await new Promise(done => setTimeout(done, 100));
    }
    return Infinity;
}"""
# Of all pieces of code that look alike, axe judges the colours of one: of thousands it would take minutes.
THIN_OUT = """() => {
    const seen = new Set();
    for (const piece of document.querySelectorAll('.highlight span')) {
        const look = `${piece.closest('[class^=highlight-]')?.className} ${piece.className}`;
        if (seen.has(look)) piece.replaceWith(...piece.childNodes);
        seen.add(look);
    }
}"""
# What does not hold on a page, each in a few words.
LOOK = """() => {
    const found = [];
    if (document.documentElement.scrollWidth > innerWidth) found.push(`scrolls sideways: ${document.documentElement.scrollWidth} pixels`);
    for (const picture of document.images) if (picture.complete && !picture.naturalWidth) found.push(`no picture: ${picture.src.slice(0, 80)}`);
    for (const picture of document.images) if (/\\.png$/.test(picture.alt)) found.push(`a picture whose text is a file's name: ${picture.alt}`);
    for (const formula of document.querySelectorAll('svg.formula')) if (!formula.getBoundingClientRect().width) found.push('a formula without width');
    if (document.querySelectorAll('h1').length < 1) found.push('no title');
    return found;
}"""


@pytest.fixture(scope="module")
def site():
    """The site, made anew; and the seconds of a processor that it took."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    made = subprocess.run([sys.executable, "tools/website.py"], cwd=ROOT, capture_output=True, text=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert made.returncode == 0, made.stdout + made.stderr
    return SITE, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


@pytest.fixture(scope="module")
def pages(site):
    """Every page, by its name without .html."""
    return {path.relative_to(SITE).with_suffix("").as_posix(): path for path in sorted(SITE.rglob("*.html")) if "_static" not in path.parts}


@pytest.fixture(scope="module")
def browser():
    with chromium(PICTURES, "--host-resolver-rules=MAP * ~NOTFOUND") as browser:
        yield browser


class Visit:
    """A browser's window without a network, and what went wrong in it."""

    def __init__(self, browser, width=1400, scheme="light"):
        self.context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
        self.page, self.wrong = self.context.new_page(), []
        self.page.on("console", lambda said: self.wrong.append(f"console: {said.text}") if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.page.on(
            "request",
            lambda request: None if request.url.startswith(("file:", "data:", "blob:", "about:")) else self.wrong.append(request.url),
        )
        self.page.on("requestfailed", lambda request: self.wrong.append(f"failed: {request.url[:100]}"))

    def open(self, path, query=""):
        self.page.goto(path.as_uri() + query)
        return self.page


@pytest.fixture
def visit(browser):
    visit = Visit(browser)
    yield visit
    visit.context.close()


def test_it_is_made_quickly_and_is_small(site):
    folder, seconds = site
    megabytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
    print(f"{seconds:.0f} s of a processor, {megabytes:.1f} MB")
    assert seconds < BUILD_SECONDS
    assert megabytes < MEGABYTES


def test_every_link_leads_to_a_file_and_a_place_in_it(pages):
    places, dead = {}, set()
    for path in pages.values():
        places[path] = set(re.findall(r'\bid="([^"]+)"', path.read_text(encoding="utf-8")))
    for name, path in pages.items():
        text = re.sub(r'srcdoc="[^"]*"', "", path.read_text(encoding="utf-8"))
        for kind, address in re.findall(r'\b(href|src)="([^"]+)"', text):
            link = urlparse(address)
            if link.scheme:
                if kind == "src" and link.scheme not in ("data",):
                    dead.add(f"{name}: {address} comes from elsewhere")
                continue
            target = (path.parent / unquote(link.path)).resolve() if link.path else path
            if not target.is_file() or (link.fragment and target in places and unquote(link.fragment) not in places[target]):
                dead.add(f"{name}: {address}")
    assert dead == set()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1400, 390])
def test_every_page_opens_from_a_disk_without_a_network(browser, pages, width, scheme):
    visit, wrong, slowest = Visit(browser, width, scheme), {}, 0
    for name, path in pages.items():
        visit.wrong.clear()
        page = visit.open(path)
        painted = page.evaluate(PAINTED)
        for _ in range(2):  # a machine that does something else for a moment is not the page's fault
            if painted >= FIRST_PAINT:
                page.reload()
                painted = page.evaluate(PAINTED)
        slowest = max(slowest, painted)
        page.wait_for_timeout(300)  # for what runs once a page is there
        problems = visit.wrong + page.evaluate(LOOK)
        if page.evaluate("document.documentElement.dataset.theme") != scheme:
            problems.append("has another theme than the reader's system")
        height = min(TALLEST, page.evaluate("document.documentElement.scrollHeight"))
        clip = {"x": 0, "y": 0, "width": width, "height": height}
        page.screenshot(path=PICTURES / f"{name.replace('/', '-')}-{width}-{scheme}.png", full_page=True, clip=clip)
        page.evaluate(THIN_OUT)
        problems += barriers(page)
        if painted >= FIRST_PAINT:
            problems.append(f"first paint after {painted:.0f} ms")
        if problems:
            wrong[name] = sorted(set(problems))
    visit.context.close()
    print(f"{len(pages)} pages, slowest first paint {slowest:.0f} ms")
    assert wrong == {}


@pytest.mark.parametrize("width", [1400, 390])
def test_the_first_page_can_be_played_at_once(browser, pages, width):
    visit = Visit(browser, width)
    page = visit.open(pages["index"])
    again, alone, race = (page.frame_locator("iframe").nth(number) for number in range(3))
    assert page.locator("iframe").first.bounding_box()["y"] < 500, "a cart is balanced on the first screen"
    page.wait_for_timeout(1_000)
    again.get_by_role("button", name="Pause").click()
    assert float(again.locator(".clock").inner_text().split()[0]) > 0
    alone.locator("main").press("ArrowRight")
    alone.get_by_text("It fell.").wait_for(timeout=30_000)
    assert float(alone.locator(".score").inner_text().split()[0]) > 0
    race.locator(".left").click()
    race.get_by_text("still stands.").wait_for(timeout=30_000)
    assert visit.wrong == []
    page.screenshot(path=PICTURES / f"played-{width}.png")
    visit.context.close()


def test_the_network_of_a_lesson_can_be_looked_into(visit, pages):
    inside = visit.open(pages["notebooks/05_ppo"]).frame_locator("iframe").last
    inside.locator(".map").scroll_into_view_if_needed()
    inside.locator(".map").click(position={"x": 130, "y": 130})
    inside.get_by_text("Saved: it stands after ten seconds").wait_for(timeout=30_000)
    assert visit.wrong == []


def films_in(notebook):
    """How many films the outputs of a lesson hold; none where a page is no lesson."""
    cells = nbformat.read(notebook, as_version=4).cells if notebook.exists() else []
    return sum(output.get("data", {}).get("text/html", "").count("<video") for cell in cells for output in cell.get("outputs", []))


def test_films_are_there_and_play(visit, pages):
    films = {}
    for name, path in pages.items():
        count = path.read_text(encoding="utf-8").count("<video")
        assert count == films_in(ROOT / f"{name}.ipynb"), name
        if count:
            page = visit.open(path)
            found = page.locator("video")
            played = [found.nth(number).evaluate(PLAY) for number in range(count)]
            films[name] = [film["advanced"] > 0 and film["width"] > 0 and film["shown"] > 100 for film in played]
    assert sum(map(len, films.values())) > 20
    assert {name: played for name, played in films.items() if not all(played)} == {}


def test_the_search_finds_what_one_looks_for(visit, pages):
    missed = {}
    for word, wanted in PROBES.items():
        page = visit.open(pages["search"], f"?q={word}")
        page.wait_for_function("/finished|found|did not match/i.test(document.querySelector('#search-results')?.textContent ?? '')")
        page.wait_for_timeout(300)
        answers = page.eval_on_selector_all("#search-results li a", "links => links.map(link => link.href)")
        if not any(wanted in answer for answer in answers):
            missed[word] = answers[:5]
    assert missed == {}
    assert visit.wrong == []


def test_algorithms_are_chosen_and_seeds_are_named_on_the_page_of_learning_curves(visit, pages):
    page = visit.open(pages["results/curves"])
    curve = page.locator(".curve.ppo")
    assert curve.is_visible()
    page.locator("#curve-ppo").uncheck()
    assert not curve.is_visible()
    assert page.locator(".seeds title").first.text_content().startswith("seed 1000: ")


def test_a_theme_that_a_reader_chooses_is_the_games_too(visit, pages):
    page = visit.open(pages["index"])
    ground = "() => getComputedStyle(document.querySelector('iframe').contentDocument.body).backgroundColor"
    light = page.evaluate(ground)
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.wait_for_timeout(300)
    assert page.evaluate(ground) != light
