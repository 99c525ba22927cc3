"""Takes the pictures of docs/images of a Home Assistant that runs:   python -m tests.home_assistant.screenshots

Needs chromium and chromedriver (Debian: chromium chromium-driver), and HARDWIRE_HOME_ASSISTANT as the tests do.
"""

from __future__ import annotations

import base64
import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from pathlib import Path
from typing import Any, Final

from plugin.demo.broker import LOOPBACK, wait_for_port
from tests.home_assistant.client import until
from tests.home_assistant.household import Household, household
from tests.home_assistant.installation import installed

IMAGES: Final = Path(__file__).parents[2] / "docs" / "images"
VERSION: Final = "2026.11"
PAGE_S: Final = 60.0
QUIET_S: Final = 8.0  # what moves on a page, and graphs that are drawn late
# Home Assistant's page is nested shadow roots; its words are not in the document's own text.
WORDS: Final = """
const all = (root) => [...root.querySelectorAll('*')].flatMap(
  (one) => [...(one.shadowRoot ? all(one.shadowRoot) : []), one]);
return all(document).filter((one) => !one.children.length).map((one) => one.textContent).join(' ');
"""


class Browser:
    """A page of chromium, by the WebDriver protocol."""

    def __init__(self, port: int, size: tuple[int, int]) -> None:
        self._base = f"http://{LOOPBACK}:{port}"
        arguments = ["--headless=new", "--no-sandbox", "--hide-scrollbars", "--force-device-scale-factor=1"]
        options = {"args": [*arguments, f"--window-size={size[0]},{size[1]}"]}
        capabilities = {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}
        self._session = self._ask("POST", "/session", {"capabilities": capabilities})["sessionId"]

    def show(self, url: str, words: str) -> None:
        """Open ``url`` and wait until the page has ``words``."""
        self._ask("POST", f"/session/{self._session}/url", {"url": url})
        until(lambda: words in self.run(WORDS), f"{words!r} on {url}", PAGE_S)
        time.sleep(QUIET_S)

    def run(self, script: str) -> Any:
        """Return what a piece of JavaScript returns."""
        return self._ask("POST", f"/session/{self._session}/execute/sync", {"script": script, "args": []})

    def picture(self, path: Path) -> None:
        """Write what the window shows, as PNG."""
        path.write_bytes(base64.b64decode(self._ask("GET", f"/session/{self._session}/screenshot")))

    def close(self) -> None:
        """Close the window."""
        self._ask("DELETE", f"/session/{self._session}")

    def _ask(self, method: str, path: str, data: object = None) -> Any:
        body = None if data is None else json.dumps(data).encode()
        request = urllib.request.Request(
            self._base + path, body, {"Content-Type": "application/json"}, method=method
        )
        with urllib.request.urlopen(request, timeout=PAGE_S) as answer:
            return json.load(answer)["value"]


@contextmanager
def browser(size: tuple[int, int]) -> Iterator[Browser]:
    """Start chromedriver and a window."""
    driver = shutil.which("chromedriver")
    assert driver, "there is no chromedriver: apt install chromium chromium-driver"
    with socket.create_server((LOOPBACK, 0)) as free:
        port = int(free.getsockname()[1])
    process = subprocess.Popen([driver, f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        assert wait_for_port(LOOPBACK, port, PAGE_S)
        page = Browser(port, size)
        try:
            yield page
        finally:
            page.close()
    finally:
        process.terminate()
        process.wait(PAGE_S)


def live(house: Household) -> None:
    """Let some things happen, so that there is something to see."""
    for topic, alert in (
        ("washing_machine", {"title": "The washing machine is done", "to": "alice", "severity": "info"}),
        ("water_leak", {"title": "Water leak: Sink", "to": "family", "severity": "critical"}),
        ("door_open", {"title": "Front door: open too long", "to": "family", "severity": "warning"}),
        ("low_battery", {"title": "2 batteries are low", "to": "stranger"}),
        ("water_leak", {"title": "Water leak: over", "to": "family", "severity": "info"}),
    ):
        house.automation.publish(topic, {"message": "x", "id": str(alert["title"]), **alert})
        outcome = house.automation.final(topic)
        assert outcome["event_type"] == ("failure" if "batteries" in outcome["subject"] else "success")
    house.home.wait_for("sensor.hardwire_sent", "4")
    history(house)


def history(house: Household) -> None:
    """Give the counters a fortnight, which Home Assistant has no time to see here."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for sensor, counts in (
        ("sent", (3, 5, 2, 4, 4, 7, 3, 2, 5, 9, 4, 3, 6, 4)),
        ("failed", (0, 0, 0, 1, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1)),
    ):
        totals = list(accumulate(counts, initial=0))
        days = [today - timedelta(days=len(counts) - number) for number in range(len(totals))]
        house.home.command(
            "recorder/import_statistics",
            metadata={
                "has_mean": False,
                "mean_type": 0,
                "has_sum": True,
                "name": None,
                "source": "recorder",
                "statistic_id": f"sensor.hardwire_{sensor}",
                "unit_class": None,
                "unit_of_measurement": "mails",
            },
            stats=[
                {"start": day.isoformat(), "state": total, "sum": total}
                for day, total in zip(days, totals, strict=True)
            ],
        )


def device_page(house: Household) -> str:
    """Return the path of the page of our device."""
    devices = house.home.command("config/device_registry/list")
    device_id = next(one["id"] for one in devices if ["mqtt", "hardwire_alerts"] in one["identifiers"])
    return f"/config/devices/device/{device_id}"


def main() -> None:
    """Take both pictures."""
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, household(installed(VERSION), Path(folder)) as house:
        live(house)
        root = f"http://{LOOPBACK}:{house.home.port}"
        with browser((1600, 1000)) as page:
            page.show(root + "/hardwire-mail/mail", "Last outcomes")
            page.picture(IMAGES / "home-assistant-dashboard.png")
        with browser((1280, 1640)) as page:
            page.show(root + device_page(house), "Send test mail")
            page.picture(IMAGES / "home-assistant-device.png")


if __name__ == "__main__":
    main()
