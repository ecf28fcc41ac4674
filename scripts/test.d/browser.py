"""A Chromium of one's own, driven by the DevTools protocol over a pipe. Nothing but the standard library."""

import base64
import json
import os
import select
import shutil
import subprocess
import tempfile
import time


class BrowserError(Exception):
    """What the browser refused, or what did not come about in time."""


class Browser:
    """Starts Chromium without a window, opens one page, and ends it again."""

    def __init__(self, binary):
        self.profile = tempfile.mkdtemp(prefix="breakwater-browser.")
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        os.set_blocking(self._in, False)
        # It reads from 3 and writes to 4. Both ends are moved out of the way first.
        high = [os.dup(end) for end in (to_browser, from_browser)]
        shell = f'exec 3<&{high[0]} 4>&{high[1]} {high[0]}<&- {high[1]}>&-; exec "$@"'
        # Through bash, since ends of two digits are no redirections for a plain sh.
        self.process = subprocess.Popen(
            [
                "bash",
                "-c",
                shell,
                "browser",
                binary,
                "--headless=new",
                "--remote-debugging-pipe",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
                "--no-default-browser-check",
                "--disable-background-networking",
                "--disable-component-update",
                "--disable-sync",
                "--disable-extensions",
                "--hide-scrollbars",
                "--force-color-profile=srgb",
                "--lang=en-GB",
                f"--user-data-dir={self.profile}",
                "about:blank",
            ],
            pass_fds=high,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for end in (to_browser, from_browser, *high):
            os.close(end)
        self._buffer = b""
        self._next = 1
        self._session = None
        self._is_loaded = False
        self.hosts = set()
        self.complaints = []
        self.policy_breaches = []
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")

    def close(self):
        """Ends the browser and removes what it left."""
        try:
            self._session = None
            self.call("Browser.close", timeout=5)
        except (BrowserError, OSError):
            pass
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.profile, ignore_errors=True)

    # --- The protocol

    def call(self, method, timeout=60, **parameters):
        """One call, and its result. Events that come first are noted."""
        number, self._next = self._next, self._next + 1
        message = {"id": number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        data = json.dumps(message).encode() + b"\0"
        while data:
            data = data[os.write(self._out, data) :]
        deadline = time.monotonic() + timeout
        while True:
            answer = self._read(deadline)
            if answer.get("id") == number:
                if "error" in answer:
                    raise BrowserError(f"{method}: {answer['error']}")
                return answer["result"]
            self._note(answer)

    def _read(self, deadline):
        while b"\0" not in self._buffer:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._in], [], [], left)[0]:
                raise BrowserError("the browser did not answer in time")
            data = os.read(self._in, 1 << 20)
            if not data:
                raise BrowserError("the browser went away")
            self._buffer += data
        message, self._buffer = self._buffer.split(b"\0", 1)
        return json.loads(message)

    def _note(self, event):
        method, parameters = event.get("method"), event.get("params", {})
        if method == "Network.requestWillBeSent":
            url = parameters["request"]["url"]
            if not url.startswith(("data:", "about:")):
                self.hosts.add(url.split("/")[2])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(parameters["exceptionDetails"].get("text", "an exception"))
        elif method == "Runtime.consoleAPICalled" and parameters["type"] in ("error", "warning", "assert"):
            self.complaints.append(" ".join(str(each.get("value", "")) for each in parameters["args"]))
        elif method == "Log.entryAdded" and parameters["entry"]["level"] in ("error", "warning"):
            self.complaints.append(parameters["entry"]["text"])
        elif method == "Page.loadEventFired":
            self._is_loaded = True

    # --- What a person does

    def open(self, url):
        """Goes to a page, and waits until it is there."""
        self._is_loaded = False
        self.call("Page.navigate", url=url)
        self._wait_loaded()

    def _wait_loaded(self, timeout=60):
        deadline = time.monotonic() + timeout
        while not self._is_loaded:
            if time.monotonic() > deadline:
                raise BrowserError("the page did not load in time")
            self.call("Runtime.evaluate", expression="0")
            time.sleep(0.02)

    def run(self, script):
        """The value of a script in the page."""
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise BrowserError(f"{script}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def text(self):
        """What there is to read."""
        return self.run("document.body.innerText")

    def path(self):
        """Where the page is."""
        return self.run("location.pathname")

    def fill(self, selector, value):
        """Writes into a field."""
        found = self.run(
            f"(() => {{ const field = document.querySelector({json.dumps(selector)}); if (!field) return false;"
            f" field.value = {json.dumps(value)}; return true }})()"
        )
        if not found:
            raise BrowserError(f"there is no {selector}")

    def click(self, selector, loads=False):
        """Presses what is there; waits for the next page where one comes."""
        self._is_loaded = False
        found = self.run(
            f"(() => {{ const it = document.querySelector({json.dumps(selector)}); if (!it) return false;"
            " it.click(); return true })()"
        )
        if not found:
            raise BrowserError(f"there is no {selector} on {self.path()}:\n{self.text()}")
        if loads:
            self._wait_loaded()

    def press(self, key, loads=False):
        """Presses and lets go of a key; waits for the next page where one comes."""
        self._is_loaded = False
        code = {"Tab": 9, "Enter": 13}[key]
        for kind in ("keyDown", "keyUp"):
            text = {"text": "\r"} if key == "Enter" and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **text)
        if loads:
            self._wait_loaded()

    def type(self, text):
        """Writes where the focus is."""
        self.call("Input.insertText", text=text)

    def wait(self, what, script, timeout=90):
        """Asks the page again and again until a script is true."""
        deadline = time.monotonic() + timeout
        while not self.run(script):
            if time.monotonic() > deadline:
                raise BrowserError(f"waited {timeout} s for what did not happen: {what}. The page says:\n{self.text()}")
            time.sleep(0.1)

    def size(self, width, height, scale=1, dark=False):
        """How large the window is, and which colours are wanted."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )
        self.call(
            "Emulation.setEmulatedMedia",
            features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}],
        )

    def picture(self, file, whole=True):
        """Writes what is to be seen into a PNG."""
        clip = {}
        if whole:
            box = self.call("Page.getLayoutMetrics")["cssContentSize"]
            clip = {
                "clip": {"x": 0, "y": 0, "width": box["width"], "height": min(box["height"], 4000), "scale": 1},
                "captureBeyondViewport": True,
            }
        data = self.call("Page.captureScreenshot", format="png", **clip)["data"]
        with open(file, "wb") as out:
            out.write(base64.b64decode(data))
