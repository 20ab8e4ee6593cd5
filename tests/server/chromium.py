"""A headless Chromium, driven over a pair of pipes by its DevTools protocol: nothing but the browser is needed."""

import base64
import json
import os
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
import time

PROGRAMS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


def find():
    """The browser's path; None: there is none."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Chromium:
    """One browser with one page."""

    def __init__(self, program, width=1440, height=900):
        self.profile = tempfile.TemporaryDirectory(prefix="odmoe-page-")
        to_read, self.to_browser = os.pipe()
        self.from_browser, to_write = os.pipe()

        def pipes():  # the browser reads commands from 3 and writes answers to 4
            commands, answers = os.dup(to_read), os.dup(to_write)
            os.dup2(commands, 3)
            os.dup2(answers, 4)

        self.process = subprocess.Popen(
            # --no-sandbox: root of a container has none, and the one page it opens is the project's own.
            [program, "--headless", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
             "--no-first-run", "--disable-extensions", "--disable-background-networking", "--hide-scrollbars",
             f"--user-data-dir={self.profile.name}", f"--window-size={width},{height}", "about:blank"],
            close_fds=False, preexec_fn=pipes, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        os.close(to_read)
        os.close(to_write)
        self.answers = queue.Queue()
        self.complaints = []  # errors that the page or the browser reported
        threading.Thread(target=self._read, daemon=True).start()
        self.last_id = 0
        self.session = None
        target = next(t for t in self.call("Target.getTargets")["targetInfos"] if t["type"] == "page")
        self.session = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.call(domain + ".enable")
        self.size(width, height)

    def _read(self):
        held = b""
        while chunk := os.read(self.from_browser, 1 << 16):
            held += chunk
            while b"\0" in held:
                text, held = held.split(b"\0", 1)
                message = json.loads(text)
                if "id" in message:
                    self.answers.put(message)
                    continue
                params = message.get("params", {})
                if message.get("method") == "Runtime.exceptionThrown":
                    details = params["exceptionDetails"]
                    self.complaints.append(details.get("exception", {}).get("description") or details["text"])
                if message.get("method") == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
                    self.complaints.append(params["entry"]["text"] + " " + params["entry"].get("url", ""))
                if message.get("method") == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning"):
                    self.complaints.append(" ".join(str(a.get("value")) for a in params["args"]))
        self.answers.put(None)

    def call(self, method, **params):
        self.last_id += 1
        message = {"id": self.last_id, "method": method, "params": params}
        if self.session:
            message["sessionId"] = self.session
        os.write(self.to_browser, json.dumps(message).encode() + b"\0")
        answer = self.answers.get(timeout=120)
        if answer is None:
            raise RuntimeError("the browser ended")
        if "error" in answer:
            raise RuntimeError(f"{method}: {answer['error']}")
        return answer["result"]

    def size(self, width, height, scale=1):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=False)

    def scheme(self, name):
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": name}])

    def open(self, url):
        self.call("Page.navigate", url=url)
        self.wait("document.readyState === 'complete' && location.href !== 'about:blank'")

    def reload(self):
        self.get("globalThis.before = true; 0")
        self.call("Page.reload")
        self.wait("!globalThis.before && document.readyState === 'complete'")

    def get(self, expression):
        """The value of a JavaScript expression."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(f"{expression}: {result['exceptionDetails']}")
        return result["result"].get("value")

    def wait(self, expression, seconds=60):
        """Until the expression is true; the value that it has then."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if value := self.get(expression):
                return value
            time.sleep(0.05)
        raise AssertionError(f"never came true: {expression}; the page shows: {self.get('document.body.innerText')[:5000]}")

    def click(self, selector):
        """As a hand with a mouse does it: what covers the element is hit in its place."""
        x, y = self.get(f"""(() => {{ const e = document.querySelector({json.dumps(selector)}); e.scrollIntoView({{block: "nearest"}});
                        const b = e.getBoundingClientRect(); return [b.x + b.width / 2, b.y + b.height / 2]; }})()""")
        self.move(x, y)
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def move(self, x, y):
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def type(self, text):
        self.call("Input.insertText", text=text)

    def press(self, key, code):
        text = {"text": "\r"} if key == "Enter" else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, code=key, windowsVirtualKeyCode=code, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key, code=key, windowsVirtualKeyCode=code)

    def screenshot(self, path):
        """A WebP."""
        with open(path, "wb") as file:
            file.write(base64.b64decode(self.call("Page.captureScreenshot", format="webp", quality=90)["data"]))

    def end(self):
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.profile.cleanup()
