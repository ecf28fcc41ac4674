"""What somebody on call does with the dashboard, in a real browser: `dashboard.py CHROMIUM URL PORT [PICTURES]`.

The receiver of the webhooks is switched on and off by this script, and everything that is said to have happened is
looked for on the pages. Prints one line for each thing that came true; ends with 1 at the first that did not.
"""

import http.server
import os
import subprocess
import sys
import threading
import time

from browser import Browser, BrowserError

PASSWORD = "correct horse"


class Server(http.server.ThreadingHTTPServer):
    """Takes what both workers have waiting at once: Python's queue of five leaves connections stranded for a minute."""

    request_queue_size = 1024


class Receiver:
    """The service that the webhooks go to. While it is down, nothing listens on its port."""

    def __init__(self, port):
        self.port = port
        self.server = None

    def start(self):
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                answer(self, 422 if b"closed" in body else 200)

            def log_message(self, *_):
                pass

        self.server = Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


def expect(is_so, what, browser):
    if not is_so:
        raise BrowserError(f"not so: {what}. The page says:\n{browser.text()}")
    print(f"    ok: {what}", flush=True)


def enqueue(first, last, account="open"):
    """Webhooks for the worker to deliver."""
    sql = (
        f"select breakwater.enqueue_many('webhook.deliver', array(select jsonb_build_object('order', i, 'account',"
        f" '{account}') from generate_series({first}, {last}) i))"
    )
    subprocess.run(
        [os.environ["PSQL"], "-X", "-q", "-c", sql, os.environ["DATABASE_URL"]], check=True, stdout=subprocess.DEVNULL
    )


def log_in(browser, url, user):
    browser.open(f"{url}/login")
    browser.fill("[name=user]", user)
    browser.fill("[name=password]", PASSWORD)
    browser.click("main button", loads=True)


def bulk(browser, url, pictures):
    """Everything that matches a filter is purged at a rate, after a dry run; one looks on."""
    browser.open(f"{url}/dead-letters?kind=image.resize")
    browser.click("[name=do][value='purge matching']", loads=True)
    expect(
        "Purge 5 jobs?" in browser.text() and "those of the kind image.resize" in browser.text(),
        "purging what matches says first how many that would be",
        browser,
    )
    browser.fill("[name=rate]", "1")
    browser.fill("[name=reason]", "nobody wants these pictures")
    browser.click("main form button.primary", loads=True)
    browser.wait("the run is seen to go on", "/[1-4] of 5, at most 1 a second/.test(document.body.innerText)")
    if pictures:
        browser.picture(os.path.join(pictures, "bulk-1280-light.png"))
    browser.wait("it is done", has("done: 5"))
    expect(
        "image.resize" not in browser.run("document.querySelector('.causes').innerText"), "its cause is gone", browser
    )


def has(text):
    return f"document.body.innerText.includes({text!r})"


PAGES = {
    "overview": "/",
    "circuits": "/circuits",
    "circuit": "/circuits/one?kind=webhook.deliver",
    "queues": "/queues",
    "incidents": "/incidents",
    "incident": "/incidents/1",
    "jobs": "/jobs",
    "dead-letters": "/dead-letters",
    "workers": "/workers",
    "audit": "/audit",
}


def keyboard(browser, url):
    """By keyboard alone: every stop is seen to have the focus, a refresh leaves it where it is, and a form can be sent."""

    def tab_to(selector):
        for _ in range(80):
            browser.press("Tab")
            seen = browser.run(
                "(() => { const e = document.activeElement, s = getComputedStyle(e);"
                " return e === document.body || (s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2) })()"
            )
            if not seen:
                raise BrowserError(
                    f"one cannot see that this has the focus: {browser.run('document.activeElement.outerHTML')}"
                )
            if browser.run(f"document.activeElement.matches({selector!r})"):
                return
        raise BrowserError(f"{selector} is not to be reached by keyboard")

    browser.open(f"{url}/circuits/one?kind=webhook.deliver")
    browser.press("Tab")
    expect(browser.run("document.activeElement.matches('.skip')"), "the first stop leads past the navigation", browser)
    tab_to("#act-close summary")
    stamp = browser.run("document.querySelector('#foot').innerText")
    browser.wait("the page refreshes itself", f"document.querySelector('#foot').innerText !== {stamp!r}")
    expect(
        browser.run("document.activeElement.matches('#act-close summary')"),
        "the focus stays where it is when the page refreshes itself",
        browser,
    )
    browser.press("Enter")
    tab_to("#act-close [name=reason]")
    browser.type("the receiver is back")
    tab_to("#act-close form button")
    browser.press("Enter", loads=True)


def look_around(browser, url, pictures, pages):
    """Pages in two widths and two schemes: nothing sticks out, and each has its picture."""
    for name, path in pages.items():
        for width, height in ((1280, 800), (390, 844)):
            for dark in (False, True):
                browser.size(width, height, dark=dark)
                browser.open(url + path)
                over = browser.run("document.documentElement.scrollWidth - innerWidth")
                if over > 0:
                    raise BrowserError(f"{path} is {over} pixels too wide for {width}")
                unnamed = browser.run(
                    "[...document.querySelectorAll('button, a, summary, svg[role=img], input:not([type=hidden]), select')]"
                    ".filter(e => !(e.textContent || '').trim() && !e.getAttribute('aria-label') && !e.closest('label')).length"
                )
                if unnamed:
                    raise BrowserError(f"{path}: {unnamed} things to use have no name")
                if pictures:
                    shade = "dark" if dark else "light"
                    browser.picture(os.path.join(pictures, f"{name}-{width}-{shade}.png"))
    browser.size(1280, 800)
    print(
        f"    ok: {', '.join(pages)}: 1280 and 390 pixels, light and dark; all fits, and everything to use has a name"
    )


def contrast(browser, url):
    """Texts stand out from what is behind them, as WCAG AA wants it."""
    script = """
    (() => {
      const parse = (c) => { const m = c.match(/[\\d.]+/g).map(Number); return [m[0], m[1], m[2], m[3] ?? 1]; };
      const light = ([r, g, b]) => [r, g, b].map(v => { v /= 255; return v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4 })
        .reduce((s, v, i) => s + v * [.2126, .7152, .0722][i], 0);
      const ground = (e) => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c[3] === 1) return c }
        return [255, 255, 255, 1] };
      const bad = new Set();
      for (const e of document.querySelectorAll('body *')) {
        if (![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) || e.closest('svg, .visually-hidden, .skip, option, title, script')) continue;
        if (!e.getClientRects().length) continue;
        const style = getComputedStyle(e), a = light(parse(style.color)), b = light(ground(e));
        const ratio = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
        const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && style.fontWeight >= 700);
        if (ratio < (large ? 3 : 4.5)) bad.add(`${e.className || e.tagName}: ${ratio.toFixed(2)}`);
      }
      return [...bad];
    })()"""
    for dark in (False, True):
        browser.size(1280, 800, dark=dark)
        for path in PAGES.values():
            browser.open(url + path)
            bad = browser.run(script)
            if bad:
                raise BrowserError(f"{path}, {'dark' if dark else 'light'}: too little contrast: {bad}")
    browser.size(1280, 800)
    print("    ok: texts have the contrast that WCAG AA wants, light and dark")


def main(chromium, url, port, pictures):
    receiver = Receiver(port)
    browser = Browser(chromium)
    try:
        browser.size(1280, 800)
        browser.open(url)
        expect(browser.path() == "/login", "a stranger is asked to log in", browser)
        look_around(browser, url, pictures, {"login": "/login"})
        browser.fill("[name=user]", "ann")
        browser.fill("[name=password]", "wrong")
        browser.click("main button", loads=True)
        expect("is wrong" in browser.text(), "a wrong password is refused", browser)
        # A browser notes each refusal it is sent on its console: this one was meant.
        browser.complaints = [each for each in browser.complaints if "403" not in each]
        log_in(browser, url, "ann")
        expect("operator" in browser.text(), "ann logs in as an operator", browser)

        receiver.start()
        browser.open(f"{url}/circuits")
        # Some are refused for good, which is no fault of the receiver's. All is well for a while, so that the window
        # has something to show.
        enqueue(2001, 2012, "closed")
        for order in range(1, 301, 10):
            enqueue(order, order + 9)
            time.sleep(0.4)
        browser.wait(
            "its calls are in the window",
            "[...document.querySelectorAll('.row')].some(r => r.innerText.includes('webhook.deliver')"
            " && r.querySelector('svg.window .good'))",
        )
        print("    ok: webhooks are delivered, and the closed circuit's window shows it")
        receiver.stop()
        enqueue(1001, 1001, "closed")
        enqueue(1002, 1300)
        browser.wait(
            "the circuit of webhook.deliver opens, while one looks on",
            "document.querySelector('.circuit.is-open, .circuit.is-half-open')?.innerText.includes('webhook.deliver')",
        )
        browser.wait(
            "its next probe is counted down",
            "[...document.querySelectorAll('.countdown')].some(e => e.innerText.startsWith('in '))",
        )
        expect("in a row" in browser.text() or "failed" in browser.text(), "the page says why", browser)
        expect(browser.run("document.querySelector('#open-circuits').innerText") == "1", "the bar counts it", browser)
        print("    ok: a circuit was seen to open while its service was down")
        before = browser.run("document.querySelector('.countdown')?.innerText ?? ''")
        browser.wait("the countdown moves", f"(document.querySelector('.countdown')?.innerText ?? '') !== {before!r}")
        browser.open(f"{url}/jobs?kind=webhook.deliver")
        job = browser.run("document.querySelector('tbody th a').getAttribute('href')")
        look_around(browser, url, pictures, {**PAGES, "job": job})
        contrast(browser, url)

        receiver.start()
        keyboard(browser, url)
        expect(
            "is held closed" in browser.text() and "Held closed" in browser.text(),
            "ann forces it closed, by keyboard alone",
            browser,
        )
        expect("the receiver is back" in browser.text(), "her reason is in the history", browser)
        browser.open(f"{url}/queues")
        browser.wait(
            "the webhooks that waited are delivered",
            "![...document.querySelectorAll('tbody tr')].some(r => r.innerText.includes('webhook.deliver')"
            " && r.querySelector('td a'))",
        )
        print("    ok: the jobs that waited are run")

        browser.open(f"{url}/dead-letters")
        expect(
            browser.run("document.querySelectorAll('.cause').length") == 2
            and "no such picture: #.png" in browser.text(),
            "dead letters are grouped by kind and cause, whatever the numbers in their errors",
            browser,
        )
        browser.open(f"{url}/dead-letters?kind=webhook.deliver")
        expect("http.422" in browser.text(), "the refused delivery is among the dead letters, under its cause", browser)
        job = browser.run("document.querySelector('tbody th a').innerText")
        browser.open(f"{url}/jobs/{job}")
        expect("Dead letter" in browser.text() and "Attempt 1" in browser.text(), "its page tells its story", browser)
        if pictures:
            browser.picture(os.path.join(pictures, "dead-job-1280-light.png"))
        # Now the receiver accepts everything.
        receiver.server.RequestHandlerClass.do_POST = accept
        browser.click("form[action='/dead-letters/prepare'] button", loads=True)
        expect("Redrive 1 job?" in browser.text(), "redriving asks first, and says how many", browser)
        if pictures:
            browser.picture(os.path.join(pictures, "redrive-1280-light.png"))
        browser.fill("[name=reason]", "the account is open again")
        browser.click("main form button.primary", loads=True)
        browser.wait(
            "the redriven job runs, and its page, which refreshes itself, has its result",
            has("Succeeded") + " && " + has("accepted"),
        )
        print("    ok: a dead letter is redriven, and seen to run")
        bulk(browser, url, pictures)
        browser.open(f"{url}/audit")
        text = browser.text()
        expect(
            all(
                each in text
                for each in (
                    "circuit.close",
                    "the receiver is back",
                    "dead_letter.redrive",
                    "ann",
                    "the account is open again",
                    "dead_letter.purge",
                    "nobody wants these pictures",
                )
            ),
            "the audit log has all three, with the reasons",
            browser,
        )
        expect(
            all(
                each in text
                for each in ("bea", "the encoder is being replaced", "carl", "the encoders are not here yet")
            ),
            "and what was done by the command line and in SQL",
            browser,
        )

        browser.open(f"{url}/queues")
        stale = browser.run("document.querySelector('[name=token]').value")
        browser.click("header form button", loads=True)
        expect(browser.path() == "/login", "ann logs out", browser)
        log_in(browser, url, "bob")
        browser.open(f"{url}/circuits/one?kind=webhook.deliver")
        expect(
            "read-only" in browser.text() and not browser.run("!!document.querySelector('main form')"),
            "bob, who is read-only, finds no button",
            browser,
        )
        quiet = list(browser.complaints)
        for token in (stale, browser.run("document.querySelector('[name=token]').value")):
            answer = browser.run(
                "fetch('/circuits/change', {method: 'POST', headers: {'Content-Type': 'application/x-www-form-urlencoded'},"
                f" body: 'change=open&kind=webhook.deliver&key=&reason=mischief&token={token}'}}).then(a => a.status)"
            )
            expect(answer == 403, "and is refused without one", browser)
        # The refusals are on the console, as they should be.
        browser.complaints = quiet
        browser.open(f"{url}/audit")
        expect("mischief" not in browser.text(), "nothing came of it", browser)

        browser.call("Emulation.setScriptExecutionDisabled", value=True)
        browser.open(f"{url}/circuits")
        browser.call("Emulation.setScriptExecutionDisabled", value=False)
        expect("webhook.deliver" in browser.text(), "the pages are there without scripts too", browser)

        host = url.split("/")[2]
        expect(browser.hosts == {host}, f"no request went to another host than {host}", browser)
        expect(not browser.complaints, f"the console is silent {browser.complaints or ''}", browser)
    finally:
        browser.close()


def answer(handler, status):
    body = b'{"accepted": true}' if status == 200 else b""
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


def accept(handler):
    handler.rfile.read(int(handler.headers["Content-Length"]))
    answer(handler, 200)


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] if len(sys.argv) > 4 else "")
    except BrowserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
