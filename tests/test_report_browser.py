"""The report in a browser: at all widths, by day and by night, and in print."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
from PIL import Image
from test_tables import open_world, write

from experiments.inside import Example, Inside, Words
from experiments.report import command
from scripts.tools.picture_report import PROGRAMS

pytest.importorskip("playwright.sync_api", reason="playwright is not installed (requirements-dev.txt)")
WIDTHS = (420, 768, 1400)
HOSTILE = "<img src=x onerror=hacked=1><script>hacked=1"
LONG = "a_name_without_blanks_" * 6
CLASSES = [*(f"class {number}" for number in range(40)), HOSTILE, LONG]

# Elements beyond the page, except in boxes that scroll, and text beyond its figure.
OUTSIDE = """() => {
    const width = document.documentElement.clientWidth, found = [];
    for (const one of document.body.querySelectorAll('*')) {
        const box = one.getBoundingClientRect(), frame = one.closest('svg');
        const scrolled = one.closest('.wide') && !one.matches('.wide');
        if (!frame && !scrolled && box.width && (box.right > width + 1 || box.left < -1))
            found.push(one.tagName + ' ' + one.className + ' ' + box.right);
        if (frame && one.tagName === 'text') {
            const whole = frame.getBoundingClientRect();
            if (box.right > whole.right + 1 || box.left < whole.left - 1 || box.bottom > whole.bottom + 1)
                found.push('cut: ' + one.textContent);
        }
    }
    return found;
}"""
# The least contrast of a text with what is behind it, and that text.
CONTRAST = """() => {
    document.querySelectorAll('details').forEach(one => one.open = true);
    const parse = text => {
        const numbers = text.match(/[\\d.e-]+/g).map(Number);
        const [r, g, b, a = 1] = text.startsWith('color(') ? numbers.map((n, i) => i < 3 ? 255 * n : n) : numbers;
        return text.includes('none') ? [0, 0, 0, 1] : [r, g, b, a];
    };
    const clean = text => text.replace('color(srgb', 'color(');
    const over = (top, below) => [0, 1, 2].map(i => top[i] * top[3] + below[i] * (1 - top[3]));
    const ground = one => {
        if (!one) return [255, 255, 255];
        const own = parse(clean(getComputedStyle(one).backgroundColor));
        return own[3] === 1 ? own.slice(0, 3) : over(own, ground(one.parentElement));
    };
    const luminance = colour => {
        const [r, g, b] = colour.map(c => c / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    let least = [100, ''];
    for (const one of document.body.querySelectorAll('*')) {
        const has = [...one.childNodes].some(node => node.nodeType === 3 && node.textContent.trim());
        if (!has || !one.getClientRects().length || one.matches('title, desc')) continue;
        const style = getComputedStyle(one), below = ground(one);
        const text = parse(clean(one.closest('svg') ? style.fill : style.color));
        const both = [luminance(over(text, below)), luminance(below)].sort((a, b) => a - b);
        const ratio = (both[1] + 0.05) / (both[0] + 0.05);
        if (ratio < least[0]) least = [ratio, one.tagName + ' ' + one.textContent.slice(0, 60)];
    }
    return least;
}"""
# The smallest text of figures in CSS pixels, and that text.
SMALLEST = """() => [...document.querySelectorAll('svg text')].map(one => {
    const matrix = one.getScreenCTM(), scale = Math.hypot(matrix.a, matrix.b);
    return [parseFloat(getComputedStyle(one).fontSize) * scale, one.textContent];
}).reduce((one, other) => one[0] <= other[0] ? one : other)"""


def records(folder: Path) -> None:
    """Four methods with names of strangers, on two data sets, with several seeds, shots and gates."""
    history = [{f"{tower} {layer}": 0.4 + layer / 20 for tower in ("text", "vision") for layer in range(9)}] * 4
    numbers = {"mean": 0.5, "std": 0.1, "min": 0.2, "max": 0.8}
    gates = [{"tower": tower, "layer": layer, **numbers} for tower in ("text", "vision") for layer in range(9)]
    for place, trainer in enumerate(("ZeroshotCLIP", "BMIP", "CoPrompt_BMIP", "MaPLe", HOSTILE, LONG)):
        for dataset in ("Digits", HOSTILE):
            for seed in (1, 2, 3):
                few = [{"name": name, "images": 10, "correct": (seed + len(name)) % 10} for name in CLASSES]
                common = {"trainer": trainer, "method": trainer, "dataset": dataset, "seed": seed, "per_class": few}
                common |= {"environment": dict.fromkeys(("code", "torch", "dassl", "device"), LONG)}
                name = f"{place}{dataset[:1]}{seed}"
                world = open_world(80.0 - place + seed, 60.0, 50.0 + place)
                write(folder, f"{name}all", classes="all", open_world=world, gates=gates, **common)
                for shots in (1, 4, 16):
                    trained = {"classes": "all", "shots": shots, "trained": True, "accuracy": 40.0 + shots}
                    write(folder, f"{name}few{shots}", gate_history=history, **trained, **common)


def inside(runs, data=None) -> Inside:
    """In the place of `look`."""
    plt = command.pyplot()
    figure, axes = plt.subplots(figsize=(4, 3), layout="constrained")
    axes.imshow([[0, 1], [1, 0]])
    axes.set_ylabel("images")
    stream = io.BytesIO()
    Image.new("RGB", (32, 32), "teal").save(stream, "PNG")
    examples = tuple(
        Example(stream.getvalue(), label, {"BMIP": label, "MaPLe": "class 2", HOSTILE: LONG})
        for label in ("class 1", HOSTILE, LONG)
    )
    words = (Words(0, 0, ((HOSTILE, 0.5), ("photo", 0.7))), Words(0, 1, (("a", 0.1), (LONG, 1.0))))
    differences = {("BMIP", HOSTILE): examples, ("MaPLe", "BMIP"): ()}
    counts, drawn = {("BMIP", HOSTILE): 3, ("MaPLe", "BMIP"): 0}, {"gates": (figure, f"Gates {HOSTILE}")}
    return Inside("Digits", examples, differences, counts, drawn, {"BMIP": words}, {HOSTILE: LONG}, 100)


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("report") / "output"
    records(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "look", inside)
        patch.setattr(command, "together", lambda runs: [[*runs]])
        patch.setattr(command, "check_trained", lambda run, data: {})
        assert command.print_report(folder, folder / "report.html", [folder]) == 0
    return folder / "report.html"


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    if program is None:
        pytest.skip(f"there is no browser: none of {', '.join(PROGRAMS)}")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opened(browser, page):
    """Opens the page; gives it, what it complains of, and what it asks for."""
    contexts = []

    def open_page(width: int = 1400, scheme: str = "light"):
        context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
        contexts.append(context)
        tab, complaints, requests = context.new_page(), [], []
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.on("request", lambda request: requests.append(request.url))
        tab.goto(page.as_uri())
        return tab, complaints, requests

    yield open_page
    for context in contexts:
        context.close()


def test_the_page_opens_without_complaint_and_asks_for_nothing_else(opened, page):
    tab, complaints, requests = opened()
    tab.wait_for_load_state("networkidle")
    assert complaints == []
    assert [url for url in requests if not url.startswith("data:")] == [page.as_uri()]
    assert tab.locator("svg").count() >= 12 and tab.locator(".gallery img").count() == 6
    broken = "() => [...document.images].filter(one => !one.complete || !one.naturalWidth).length"
    assert tab.evaluate(broken) == 0


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_beyond_the_page_and_no_figure_is_cut(opened, width):
    tab, _, _ = opened(width)
    tab.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    whole = tab.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert whole[0] <= whole[1]
    assert tab.evaluate(OUTSIDE) == []


@pytest.mark.parametrize("width", WIDTHS)
def test_text_in_figures_is_legible(opened, width):
    tab, _, _ = opened(width)
    size, text = tab.evaluate(SMALLEST)
    assert size >= 9, text


def test_links_of_the_contents_lead_to_the_parts(opened):
    tab, _, _ = opened()
    links = tab.eval_on_selector_all("nav a", "all => all.map(one => one.getAttribute('href'))")
    assert {"#summary", "#tables", "#table0", "#figures", "#models", "#models0", "#origin"} <= {*links}
    assert all(tab.locator(link).count() == 1 for link in links)
    tab.locator("nav a", has_text="Figures").click()
    tab.wait_for_function("Math.abs(document.querySelector('#figures').getBoundingClientRect().top) < 450")


def test_ids_are_unique(opened):
    tab, _, _ = opened()
    ids = tab.eval_on_selector_all("[id]", "all => all.map(one => one.id)")
    assert len(ids) == len({*ids})


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_by_day_and_by_night(opened, scheme):
    tab, _, _ = opened(scheme=scheme)
    ground = tab.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
    ratio, text = tab.evaluate(CONTRAST)
    assert ratio >= 4.5, text


def test_names_of_strangers_are_no_markup(opened):
    tab, _, _ = opened()
    assert tab.evaluate("typeof hacked") == "undefined"
    assert tab.locator("script").count() == 0 and tab.locator("img:not(.gallery img)").count() == 0
    assert tab.get_by_text(HOSTILE).count() > 3


def test_right_and_wrong_answers_differ_by_sign(opened):
    tab, _, _ = opened()
    first = tab.locator(".gallery figure").first
    assert first.locator(".right").all_inner_texts() == ["✓ BMIP"]
    assert first.locator(".wrong").all_inner_texts() == ["✗ MaPLe: class 2", f"✗ {HOSTILE}: {LONG}"]


def test_figures_are_described_for_those_who_do_not_see_them(opened):
    tab, _, _ = opened()
    told = "all => all.map(one => ['labelledby', 'describedby'].map(key => document.getElementById(one.getAttribute("
    told += "`aria-${key}`)).textContent))"
    for title, description in tab.eval_on_selector_all("svg", told):
        assert title and len(description) > len("Gates")


def test_the_page_prints_with_whole_figures(opened):
    tab, _, _ = opened(680, "dark")
    assert tab.pdf(format="A4").startswith(b"%PDF")
    tab.emulate_media(media="print")
    assert tab.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    breaks = tab.eval_on_selector_all("figure, tr", "all => all.map(one => getComputedStyle(one).breakInside)")
    assert {*breaks} == {"avoid"}
    assert tab.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    assert tab.evaluate(OUTSIDE) == []
