#!/usr/bin/env python3
"""The live page as somebody sees it who opens it: in a headless Chromium, against a server of the bundled model.

    page_test.py ODMOE MODEL [FOLDER]     (FOLDER: where to put screenshots of the page at work)

Ends with status 77 when there is no Chromium.
"""

import os
import re
import sys
import tempfile
import urllib.request

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import chromium
from page_conversation import (keeps_conversations, plays_the_picture, reads_markdown, shows_an_answer, streams_as_it_reads, survives,
                               takes_settings)
from served import Server, check

KEY = "a-key-of-the-test"


def is_live(browser):
    browser.wait("document.querySelector('#status').dataset.state === 'live'")


def counts(browser):
    return [int(browser.get(f"document.querySelector('#count-{place}').textContent.replaceAll(',', '') || '-1'")) for place in "rlea"]


def shows_the_model(browser, server):
    browser.open(server.url)
    is_live(browser)
    check(browser.get("document.querySelector('#model').textContent").endswith("context 2,048"), "the header tells of the model")
    browser.wait("document.querySelector('#count-a').textContent === '384'")  # nobody asked for an expert yet
    check(browser.get("document.querySelector('#figure-hits').textContent") == "\u2013", "what is not known is not zero")
    check(browser.get("document.querySelector('#map').width") > 300, "the map is there")


DEVICE = ("{name: 'GPU0', shares_host_memory: false, budget_bytes: 4096, dense_bytes: 1024, kv_bytes: 512, buffer_bytes: 512, "
          "arena_bytes: 1024, slots: 9, experts: 7, hit_rate: 0.875, copied_bytes: 3072, evictions: 4, evicted_to_host: 3, "
          "sent_bytes_per_layer: 2048, fetched_bytes_per_layer: 1024, exchange_us_per_layer: 100, launch_us_per_layer: 200, "
          "wait_us_per_layer: 700, graphs_per_token: 14}")


def shows_a_device(browser):
    """Tiles that are there only beside a device with memory of its own, of which a made-up state tells."""
    tiles = "['device', 'on-device', 'exchange'].map((id) => document.querySelector('#figure-' + id).closest('.figure'))"
    shown = f"{tiles}.filter((tile) => tile.offsetParent !== null).length"
    browser.wait("document.querySelector('#figure-memory').textContent.endsWith('MiB')")
    check(browser.get(shown) == 0, "without a device nothing is said of one")
    told = browser.get(f"""(() => {{
        const last = figures.update;
        const state = {{}};
        figures.update = (next) => Object.assign(state, next);
        return new Promise((resolve) => setTimeout(() => {{
          figures.update = last;
          figures.update({{...state, device: {DEVICE}}});
          resolve([{shown}, ...{tiles}.map((tile) => tile.querySelector('.value').textContent + '|' + tile.querySelector('.note').textContent)]);
        }}, 1000));
      }})()""")
    check(told == [3, "3.00KiB|GPU0, of 4.00\u00a0KiB",
                   "87.5%|7 of 9 experts; 3.00\u00a0KiB copied, 4 made room, 3 of them still on the host",
                   "1.00ms/layer|2.00\u00a0KiB there, 1.00\u00a0KiB back; 14.0 graphs for each token"], f"a device's tiles: {told}")
    browser.wait(f"{shown} === 0")


def answers_a_click(browser):
    """Types, clicks, sees text stream in and the map light up."""
    browser.click("#say")
    browser.type("Who are you?")
    browser.get("document.querySelector('#max-tokens').value = 600")
    browser.get("""globalThis.lengths = new Set(); new MutationObserver(() =>
        lengths.add(document.querySelector('.said.model .words')?.textContent.length)).observe(
        document.querySelector('#log'), {childList: true, subtree: true, characterData: true}); 0""")
    browser.click("#send")
    browser.wait("document.querySelector('#stop').offsetParent !== null")
    browser.wait("map.heat.some((heat) => heat > 0.3)")
    browser.wait("lengths.size > 5")  # it grew step by step
    browser.wait("document.querySelector('#send').offsetParent !== null", 300)
    check(browser.get("document.querySelector('.said.user .words').textContent") == "Who are you?", "the question is shown")
    check(browser.get("document.querySelectorAll('.said.model').length") == 1, "there is one answer")
    facts = browser.get("document.querySelector('.said.model .facts').textContent")
    check(re.fullmatch(r"\d+ tokens, [\d.]+ tokens/s, first after [\d.]+ s(, cut at the most tokens)?", facts), f"figures stand below it: {facts}")
    browser.wait("Number(document.querySelector('#count-r').textContent) > 50")
    check(sum(counts(browser)) == 384, "every expert is somewhere")
    check(browser.get("document.querySelector('#figure-memory').textContent").endswith("MiB"), "memory has a unit")


def stops(browser):
    browser.get("document.querySelector('#max-tokens').value = 1800; document.querySelector('#say').focus(); 0")
    browser.type("Speak at length.")
    browser.press("Enter", 13)
    browser.wait("document.querySelectorAll('.said.model').length === 2 && document.querySelectorAll('.said.model')[1].textContent.length > 10")
    browser.click("#stop")
    browser.wait("document.querySelectorAll('.said.model .facts')[1].textContent.endsWith('stopped')")
    browser.wait("document.querySelector('#figure-sessions').textContent.startsWith('0')")


def shows_errors(browser):
    browser.get("document.querySelector('#max-tokens').value = -7; 0")
    browser.click("#say")
    browser.type("Nothing?")
    browser.press("Enter", 13)
    said = browser.wait("document.querySelector('.said.error')?.textContent")
    check("max_tokens" in said, f"an error says what is wrong: {said}")
    # The browser itself notes the status 400.
    browser.complaints[:] = [c for c in browser.complaints if "400" not in c]
    check(browser.get("document.querySelector('#say').value") == "Nothing?", "what was not answered is back in the field")
    browser.get("document.querySelector('#max-tokens').value = document.querySelector('#say').value = ''; 0")


def tells_of_an_expert(browser):
    x, y = browser.get("(() => { const b = document.querySelector('#map').getBoundingClientRect(); return [b.x + 3, b.y + 3]; })()")
    browser.move(x, y)
    check(re.match(r"Layer \d+, expert 0: ", browser.wait("document.querySelector('#map-readout').textContent")), "the mouse points at it")
    browser.move(0, 0)
    browser.get("document.querySelector('#map').focus(); 0")
    browser.press("ArrowRight", 39)
    browser.press("ArrowRight", 39)
    check("expert 1: " in browser.get("document.querySelector('#map-readout').textContent"), "the arrow keys do too")
    browser.get("document.querySelector('#map').blur(); 0")


def has_two_themes(browser):
    color = "getComputedStyle(document.body).backgroundColor"
    browser.scheme("light")
    light = browser.get(color)
    browser.scheme("dark")
    dark = browser.get(color)
    check(light != dark, "it follows the system")
    browser.click("[data-theme-choice=light]")
    check(browser.get(color) == light, "unless it is told otherwise")
    browser.click("[data-theme-choice=dark]")
    browser.scheme("light")
    check(browser.get(color) == dark, "either way")
    pixel = "[...map.colors.a[0]].join()"
    in_dark = browser.get(pixel)
    browser.click("[data-theme-choice=auto]")
    check(browser.get(pixel) != in_dark, "the map changes its colours too")
    browser.wait("document.querySelector('[data-theme-choice=auto]').getAttribute('aria-pressed') === 'true'")


def fits(browser):
    """Nothing sticks out, on a telephone as on a large screen, and every field has a name."""
    for width, height in ((360, 740), (800, 900), (1440, 900), (2560, 1300)):
        browser.size(width, height)
        browser.wait(f"innerWidth === {width}")
        wide = browser.get("document.documentElement.scrollWidth")
        check(wide <= width, f"at {width} pixels the page is {wide} wide")
        cut = browser.get("""[...document.querySelectorAll('.value, .figure h3, button, .note')].filter(
            (e) => e.offsetParent && e.scrollWidth > e.clientWidth + 1).map((e) => e.outerHTML.slice(0, 90))""")
        check(not cut, f"cut off at {width} pixels: {cut}")
        for panel in ("settings", "history"):
            browser.click(f"#{panel}-open")
            check(browser.get("document.documentElement.scrollWidth") <= width, f"at {width} pixels the {panel} stick out")
            browser.press("Escape", 27)
            check(browser.get(f"document.querySelector('#{panel}').hidden"), "Escape closes it")
    nameless = browser.get("""[...document.querySelectorAll('input, select, textarea, button, canvas')].filter(
        (e) => !e.labels?.length && !e.textContent.trim() && !e.getAttribute('aria-label')).map((e) => e.outerHTML)""")
    check(not nameless, f"these have no name: {nameless}")
    browser.size(1440, 900)


def takes_pictures(browser, folder):
    """Light, dark, and as narrow as a telephone: the map as the bundled model lights it up, beside an answer of the stage."""
    browser.click("#new")
    plays_the_picture(browser)
    browser.move(0, 0)
    browser.get("""globalThis.background = new AbortController();
        fetch("v1/completions", {method: "POST", signal: background.signal, body: JSON.stringify({prompt: "KING:", max_tokens: 1800, stream: true})})
            .then((answer) => answer.text()).catch(() => {}); 0""")
    browser.wait("map.heat.some((heat) => heat > 0.3) && !document.querySelector('#figure-speed').textContent.startsWith('0')")
    for name, scheme, width, height in (("dark", "dark", 1440, 900), ("light", "light", 1440, 900), ("narrow", "light", 360, 740)):
        browser.scheme(scheme)
        browser.size(width, height)
        browser.wait(f"innerWidth === {width}")
        browser.get("scrollTo(0, 0); document.querySelector('#log').scrollTop = 0; new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
        path = os.path.join(folder, f"live-page-{name}.webp")
        browser.screenshot(path)
        check(8_000 < os.path.getsize(path) < 150_000, f"the picture has a size: {os.path.getsize(path)}")
        check(browser.get("document.documentElement.scrollWidth") == width, "nothing sticks out")
    browser.get("background.abort(); 0")
    browser.size(1440, 900)
    browser.wait("document.querySelector('#figure-sessions').textContent.startsWith('0')")


def stays_alone(browser):
    """The conversation can have the whole page."""
    browser.click("#wide")
    check(browser.get("document.querySelector('#figures').offsetParent === null && document.querySelector('#chat').clientWidth > 1300"), "it has")
    browser.click("#wide")
    check(browser.get("document.querySelector('#map').clientWidth > 300"), "and gives it back")


def asks_for_the_key(browser, server):
    browser.open(server.url)
    browser.wait("document.querySelector('#key-dialog').open")
    check(browser.get("document.activeElement.id") == "key-text", "one can write it at once")
    browser.type("wrong")
    browser.press("Enter", 13)
    browser.wait("document.querySelector('#status-text').textContent === 'the key was not accepted' && document.querySelector('#key-dialog').open")
    browser.type(KEY)
    browser.click("#key-form .main")
    is_live(browser)
    browser.reload()
    is_live(browser)  # it is kept as long as the tab
    check(browser.get("document.cookie === '' && !Object.values(localStorage).some((v) => v.includes('key'))"), "and no longer")
    browser.complaints[:] = [c for c in browser.complaints if "401" not in c]


def notices_the_end(browser, server):
    check(server.end() == 0, "a listening page does not keep the server from ending")
    browser.wait("document.querySelector('#status').dataset.state === 'error'")
    # That it does not reach the server is what the browser notes then, as often as the page tries.
    browser.call("Page.navigate", url="about:blank")
    browser.wait("location.href === 'about:blank'")
    browser.complaints[:] = [c for c in browser.complaints if "net::ERR" not in c and "ERR_CONNECTION" not in c]


def main():
    program = chromium.find()
    if program is None:
        print("there is no Chromium: skipped (./dev page installs it)")
        return 77
    odmoe, model = sys.argv[1:3]
    with tempfile.TemporaryDirectory() as folder:
        pictures = sys.argv[3] if len(sys.argv) > 3 else folder
        browser = chromium.Chromium(program)
        try:
            server = Server(odmoe, model, context=2048)
            with urllib.request.urlopen(server.url + "/") as answer:
                check("default-src 'none'" in answer.headers["Content-Security-Policy"], "the page comes with its policy")
            steps = [(shows_the_model, server), (shows_a_device,), (answers_a_click,), (stops,), (shows_errors,), (tells_of_an_expert,),
                     (has_two_themes,), (takes_pictures, pictures), (reads_markdown,), (streams_as_it_reads,), (shows_an_answer,),
                     (takes_settings,), (keeps_conversations,), (survives,), (fits,), (stays_alone,), (notices_the_end, server)]
            for step, *arguments in steps:
                print(step.__name__.replace("_", " "), flush=True)
                step(browser, *arguments)
                check(not browser.complaints, f"the console says: {browser.complaints}")
            server = Server(odmoe, model, "--api-key", KEY, context=2048)
            browser.complaints.clear()
            asks_for_the_key(browser, server)
            check(not browser.complaints, f"the console says: {browser.complaints}")
            server.end()
        finally:
            browser.end()
    print("the page works")
    return 0


if __name__ == "__main__":
    sys.exit(main())
