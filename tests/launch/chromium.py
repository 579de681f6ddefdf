"""A real browser, for the tests that look at pages."""

import contextlib

from scratch import need_program

try:
    from axe_playwright_python.sync_playwright import Axe
    from playwright.sync_api import sync_playwright
except ImportError:
    raise SystemExit("Playwright and axe are not installed: run `make test-browser` or `make test-site`.") from None

FLAGS = ["--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
# Plays a film from its start and waits for its clock to move.
PLAY = """async video => {
    await video.play();
    const started = video.currentTime;
    for (let waited = 0; waited < 100 && video.currentTime === started; waited++) await new Promise(done => setTimeout(done, 100));
    const advanced = video.currentTime - started;
    video.pause();
    return {advanced, width: video.videoWidth, height: video.videoHeight, error: video.error && video.error.message,
            shown: video.getBoundingClientRect().width, label: video.ariaLabel};
}"""
# A game is a page in a page, where no title is missing; a page's own title is looked for elsewhere.
# And axe fetches no style sheets, which from a disk would be an error of the page.
RULES = {"iframes": False, "preload": False, "resultTypes": ["violations"], "rules": {"page-has-heading-one": {"enabled": False}}}


def barriers(page, inside=None):
    """What axe finds on the page, and in the games on it, that keeps a reader out: the rule, and where it is broken. `inside`: a selector."""
    page.evaluate("for (const game of document.querySelectorAll('iframe')) game.loading = 'eager'")
    for game in page.frames[1:]:
        game.locator("main").wait_for()
    broken = [rule for frame in page.frames for rule in Axe().run(frame, inside, RULES).response["violations"]]
    return [f"{rule['id']}: {node['html'][:120]}" for rule in broken for node in rule["nodes"]]


@contextlib.contextmanager
def chromium(pictures, *flags):
    """`with chromium(PICTURES, ...) as browser:` Chromium with `FLAGS` and these, and a folder for what it is shown."""
    # Chrome first: the Chromium of GitHub's machines was built without the codec of our films.
    program = need_program("chromium", "google-chrome", "chromium", "chromium-browser")
    pictures.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, headless=True, args=[*FLAGS, *flags])
        yield browser
        browser.close()
