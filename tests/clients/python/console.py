"""An operator at the web console, in a headless Chromium: looks at every view in both colour schemes and at two widths,
changes policies by mouse and by keyboard, drains a pod. Prints what it saw, as JSON.

usage: console.py CHROMIUM URL draw|look|operate [AXE_JS TOKEN SHOTS|READ_TOKEN]
"""

import json
import sys
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, expect, sync_playwright

VIEWS = ("fleet", "policies", "decisions", "tenants", "replicas")
WIDTHS = {1280: 860, 390: 844}
LOOKS = ((1280, "light"), (390, "dark"))
"""In which accessibility is checked."""
PATIENT_MS = 40_000
MOST_TABS = 80


class Watched:
    """A page, and what it must not do."""

    def __init__(self, browser: Browser, url: str, width: int = 1280, scheme: str = "light") -> None:
        self.url = url
        context = browser.new_context(
            viewport={"width": width, "height": WIDTHS[width]}, color_scheme=scheme, reduced_motion="reduce"
        )
        self.page = context.new_page()
        self.page.set_default_timeout(PATIENT_MS)
        self.problems: list[str] = []
        self.page.on("pageerror", lambda error: self.problems.append(str(error)))
        self.page.on("console", self._said)
        self.page.on("request", self._asks)

    def _said(self, message: object) -> None:
        if message.type == "error" and "401" not in message.text:
            self.problems.append(message.text)

    def _asks(self, request: object) -> None:
        if urlsplit(request.url).netloc != urlsplit(self.url).netloc:
            self.problems.append(f"asks {request.url}")

    def enter(self, token: str) -> Page:
        """Open the console; it asks for the token."""
        page = self.page
        page.goto(f"{self.url}/")
        page.get_by_label("Token", exact=True).fill(token)
        page.keyboard.press("Enter")
        expect(page.locator("#link")).to_have_text("live")
        expect(page.locator("#pod-table tbody tr:not(.gap)").first).to_be_visible()
        return page


def show(page: Page, view: str) -> None:
    page.evaluate("view => { location.hash = view; }", view)
    expect(page.locator(f"#view-{view}")).to_be_visible()
    if view == "decisions":
        expect(page.locator(".decision").first).to_be_visible()
    if view == "policies":
        expect(page.locator("#policy-cards .history li").first).to_be_visible()


def look(browser: Browser, url: str, axe_js: str, token: str, shots: str) -> dict:
    """Every view at both widths, in both schemes: violations of accessibility, and other problems."""
    violations, problems, axe = [], [], Path(axe_js).read_text()
    for (width, scheme), other in zip(LOOKS, ("dark", "light"), strict=True):
        watched = Watched(browser, url, width, scheme)
        page = watched.enter(token)
        page.evaluate(axe)
        for view in VIEWS:
            show(page, view)
            page.screenshot(path=Path(shots) / f"{view}-{width}-{scheme}.png")
            where = f"{view} at {width}, {scheme}"
            if page.evaluate("document.documentElement.scrollWidth") > width:
                problems.append(f"{where} is too wide")
            found = page.evaluate("axe.run().then(found => found.violations)")
            violations += [f"{where}: {each['id']}: {each['nodes'][0]['html'][:200]}" for each in found]
        page.emulate_media(color_scheme=other)
        for view in VIEWS:
            show(page, view)
            page.screenshot(path=Path(shots) / f"{view}-{width}-{other}.png")
        problems += watched.problems
        page.context.close()
    return {"violations": violations, "problems": problems}


def generation(page: Page, text: str) -> None:
    expect(page.locator("#policy-cards .record").first).to_contain_text(text)
    expect(page.locator("#dialog")).to_be_hidden()


def by_mouse(page: Page, axe: str) -> list[str]:
    """Swap, shadow, canary, end, roll back; returns the violations of the open dialog."""
    show(page, "policies")

    def change(kind: str, policy: str) -> None:
        page.get_by_role("button", name="Change policy").click()
        page.locator(f"#dialog input[value={kind}]").check()
        page.locator("#f-policy").select_option(policy)
        page.locator("#f-note").fill("by mouse")

    page.evaluate(axe)
    change("policy", "round_robin")
    found = page.evaluate("axe.run().then(found => found.violations)")
    page.get_by_role("button", name="Check").click()
    expect(page.locator("#dialog")).to_contain_text("Nothing is changed yet")
    page.locator("#f-params").fill("[")
    page.get_by_role("button", name="Apply").click()
    expect(page.locator("#dialog-problem")).to_contain_text("JSON object")
    page.locator("#f-params").fill("{}")
    page.get_by_role("button", name="Apply").click()
    generation(page, "generation 1")
    change("shadow", "p2c")
    page.get_by_role("button", name="Apply").click()
    generation(page, "generation 2")
    expect(page.locator(".trial")).to_contain_text("Shadow: p2c")
    change("canary", "least_load")
    page.locator("#f-percent").fill("25")
    page.get_by_role("button", name="Apply").click()
    generation(page, "generation 3")
    expect(page.locator(".trial")).to_contain_text("Canary: least_load")
    expect(page.locator(".trial")).to_contain_text("25 % of sessions")
    page.get_by_role("button", name="Roll back").click()
    page.locator("#dialog").get_by_role("button", name="Roll back").click()
    generation(page, "generation 4")
    return [f"dialog: {each['id']}" for each in found]


def tab_to(page: Page, label: str) -> None:
    """Press Tab until the focus is on what has this label."""
    for _ in range(MOST_TABS):
        page.keyboard.press("Tab")
        on = page.evaluate(
            "(() => { const on = document.activeElement;"
            " return on.ariaLabel || on.labels?.[0]?.textContent || on.textContent; })()"
        )
        if on.startswith(label):
            return
    raise AssertionError(f"Tab does not lead to {label!r}")


def by_keyboard(page: Page) -> None:
    """The same without a mouse."""
    show(page, "fleet")
    tab_to(page, "Policies")
    page.keyboard.press("Enter")
    expect(page.locator("#view-policies")).to_be_visible()

    def change(downs: int, policy: str, share: str = "") -> None:
        tab_to(page, "Change policy")
        page.keyboard.press("Enter")
        expect(page.locator("#dialog input[value=policy]")).to_be_focused()
        for _ in range(downs):
            page.keyboard.press("ArrowDown")
        tab_to(page, "Policy")
        page.keyboard.type(policy)
        if share:
            tab_to(page, "Share")
            page.keyboard.press("Control+A")
            page.keyboard.type(share)
        tab_to(page, "Note")
        page.keyboard.type("by keyboard")
        page.keyboard.press("Enter")

    change(0, "least_load")
    generation(page, "generation 5")
    change(1, "p2c", "30")
    generation(page, "generation 6")
    change(2, "round_robin")
    generation(page, "generation 7")
    tab_to(page, "Roll back")
    page.keyboard.press("Enter")
    expect(page.locator("#dialog")).to_be_visible()
    tab_to(page, "Roll back")
    page.keyboard.press("Enter")
    generation(page, "generation 8")
    tab_to(page, "Change policy")
    page.keyboard.press("Enter")
    page.keyboard.press("Escape")
    expect(page.locator("#dialog")).to_be_hidden()


def drain(page: Page) -> None:
    """One pod out and in again."""
    show(page, "fleet")
    pod = page.locator("#pod-table .link").first
    for button, state in (("Drain pod", "draining"), ("End drain", "well")):
        pod.click()
        page.get_by_role("button", name=button).click()
        expect(page.locator("#pod-table .state").first).to_have_text(state)


def may_only_read(browser: Browser, url: str, token: str) -> bool:
    page = Watched(browser, url).enter(token)
    show(page, "policies")
    expect(page.get_by_role("button", name="Change policy")).to_be_disabled()
    page.context.close()
    return True


def operate(browser: Browser, url: str, axe_js: str, token: str, read_token: str) -> dict:
    """What changes something."""
    watched = Watched(browser, url)
    page = watched.enter(token)
    violations = by_mouse(page, Path(axe_js).read_text())
    by_keyboard(page)
    drain(page)
    read_only = may_only_read(browser, url, read_token)
    return {"violations": violations, "problems": watched.problems, "read_only": read_only}


def draw(browser: Browser, url: str) -> dict:
    """How a fleet is drawn: milliseconds from the first frame to the drawn view, and the elements that it takes."""
    watched = Watched(browser, url)
    page = watched.page
    page.goto(f"{url}/console")
    expect(page.locator("#pod-table tbody tr:not(.gap)").first).to_be_visible()
    took = "performance.getEntriesByName('console-draw')[0].duration"
    table = page.locator("#pod-table table")
    seen = {
        "ms": page.evaluate(took),
        "pods": int(table.get_attribute("aria-rowcount")) - 1,
        "rows": page.locator("#pod-table tbody tr:not(.gap)").count(),
    }
    page.locator("#pod-table").evaluate("box => { box.scrollTop = box.scrollHeight; }")
    last = str(seen["pods"] + 1)
    expect(page.locator(f'#pod-table tr[aria-rowindex="{last}"]')).to_be_visible()
    page.get_by_label("Search pods").fill("127.1.3.7:")
    expect(page.locator("#pod-count")).to_contain_text("1 of")
    return seen | {"problems": watched.problems}


TASKS = {"draw": draw, "look": look, "operate": operate}


def main() -> None:
    chromium, url, task, *rest = sys.argv[1:]
    expect.set_options(timeout=PATIENT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        print(json.dumps(TASKS[task](browser, url, *rest)))
        browser.close()


main()
