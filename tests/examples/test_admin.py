"""The example of admin pages: asked over HTTP wherever SQLAdmin is installed, and clicked through in a real browser.

The browser is Debian's Chromium, without a screen (``apt-get install chromium chromium-driver``).
"""

from __future__ import annotations

import asyncio
import re
import shutil
import socket
import subprocess
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

for module in ("sqladmin", "multipart", "apsw"):
    pytest.importorskip(module, reason='needs pip install "kvdialect[full,examples]"')
httpx = pytest.importorskip("httpx", reason="needs pip install --group programs")

EXAMPLES = Path(__file__).parents[2] / "examples"

with pytest.MonkeyPatch.context() as patch:
    patch.syspath_prepend(EXAMPLES)
    from admin.app import create_app

# SQLAdmin's own, on the newest Starlette and WTForms.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

ORLANDO = {
    "title": "Orlando!",
    "pages": "336",
    "price": "11.20",
    "published": "1928-10-11",
    "shelf": "1",
    "save": "Save",
}


@pytest.fixture
def url(engine_name, tmp_path):
    """The URL of a store that is not there yet, at the SQL door."""
    return f"kvdialect+{engine_name}://" if engine_name == "memory" else f"kvdialect+{engine_name}:///{tmp_path}/store"


# ------------------------------------------------------------------------------------------ over HTTP


@pytest.fixture
def ask(url):
    """Runs ``program(client)`` with a client of the pages."""

    @asynccontextmanager
    async def service():
        app = create_app(url)
        transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
        client = httpx.AsyncClient(transport=transport, base_url="http://t", follow_redirects=True)
        async with app.router.lifespan_context(app), client:
            yield client

    def ask(program):
        async def main():
            async with service() as client:
                return await program(client)

        return asyncio.run(asyncio.wait_for(main(), 60))

    return ask


def titles(page: str) -> list[str]:
    """The titles in a list of books, in their order."""
    return re.findall(r"<td>(Emma|Middlemarch|Orlando!?|Micrographia|Silent Spring)</td>", page)


def test_lists_are_sorted_searched_and_exported(ask):
    """What the pages ask of the store in SQL it answers as a database does."""

    async def program(client):
        home = await client.get("/")
        assert home.status_code == 200
        assert "Library" in home.text
        listed = (await client.get("/admin/book/list")).text
        assert titles(listed) == ["Emma", "Micrographia", "Middlemarch", "Orlando", "Silent Spring"]
        by_pages = (await client.get("/admin/book/list?sortBy=pages&sort=desc")).text
        assert titles(by_pages) == ["Middlemarch", "Emma", "Silent Spring", "Orlando", "Micrographia"]
        found = (await client.get("/admin/book/list?search=mi")).text
        assert titles(found) == ["Micrographia", "Middlemarch"]
        details = (await client.get("/admin/book/details/3")).text
        assert "1928-10-11" in details
        assert "Novels" in details
        csv = (await client.get("/admin/book/export/csv")).text
        assert "Orlando,336,11.20,1928-10-11" in csv

    ask(program)


def test_records_are_added_changed_and_deleted(ask):
    """A form that is sent is one transaction; what the next page shows has come back from the store."""

    async def program(client):
        added = await client.post("/admin/book/create", data={**ORLANDO, "title": "Silent Spring"})
        assert added.url.path == "/admin/book/list"
        assert titles(added.text).count("Silent Spring") == 2
        changed = await client.post("/admin/book/edit/3", data=ORLANDO)
        assert "Orlando!" in titles(changed.text)
        assert (await client.delete("/admin/book/delete?pks=1,6")).status_code == 200
        return titles((await client.get("/admin/book/list")).text)

    assert ask(program) == ["Micrographia", "Middlemarch", "Orlando!", "Silent Spring"]


def test_what_the_store_refuses_is_shown(ask):
    """A taken name and a violated check come back as the form's message, and change nothing."""

    async def program(client):
        taken = await client.post("/admin/shelf/create", data={"name": "Novels"})
        assert taken.status_code == 400
        assert "UNIQUE constraint failed: shelves.name" in taken.text
        empty = await client.post("/admin/book/create", data={**ORLANDO, "pages": "0"})
        assert empty.status_code == 400
        assert "CHECK constraint failed: pages_positive" in empty.text
        return titles((await client.get("/admin/book/list")).text)

    assert len(ask(program)) == 5


# ------------------------------------------------------------------------------------------ in a browser


@pytest.fixture
def server(tmp_path):
    """The address of the example, served as its README says."""
    pytest.importorskip("uvicorn", reason='needs pip install "kvdialect[examples]"')
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    store = f"kvdialect+memory:///{tmp_path.name}"
    command = [sys.executable, str(EXAMPLES / "admin"), store, "--port", str(port)]
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 60
        while not _answers(address):
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.1)
        yield address
    finally:
        process.terminate()
        process.wait(30)


def _answers(address: str) -> bool:
    try:
        httpx.get(f"{address}/admin/", timeout=5)
    except httpx.TransportError:
        return False
    return True


@pytest.fixture
def browser():
    """Chromium without a screen, driven by Selenium."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs pip install --group programs")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("needs a browser: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--window-size=1200,900",
    ):
        options.add_argument(argument)
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    opened.implicitly_wait(20)
    yield opened
    opened.quit()


def test_the_pages_are_seen_and_clicked(server, browser, tmp_path):
    """A person's way: look at the list, add a book by the form, find it, change it, delete it."""
    browser.get(f"{server}/admin/")
    browser.find_element("link text", "Books").click()
    assert titles(browser.page_source)[0] == "Emma"

    browser.find_element("partial link text", "New Book").click()
    for name, text in (("title", "Orlando!"), ("pages", "336"), ("price", "11.20")):
        browser.find_element("name", name).send_keys(text)
    browser.find_element("css selector", "input[type=submit][value=Save]").click()
    search = browser.find_element("id", "search-input")
    search.send_keys("Orlando!")
    browser.find_element("id", "search-button").click()
    row = browser.find_element("xpath", "//tr[td[text()='Orlando!']]")
    assert "336" in row.text
    assert "Emma" not in titles(browser.page_source)

    row.find_element("css selector", "a[href*='/book/edit/']").click()
    pages = browser.find_element("name", "pages")
    pages.clear()
    pages.send_keys("337")
    browser.find_element("css selector", "input[type=submit][value=Save]").click()
    browser.get(f"{server}/admin/book/list")
    row = browser.find_element("xpath", "//tr[td[text()='Orlando!']]")
    assert "337" in row.text
    picture = tmp_path / "list.png"
    assert browser.save_screenshot(str(picture))
    assert picture.stat().st_size > 5_000

    row.find_element("css selector", "a[data-bs-target='#modal-delete']").click()
    button = browser.find_element("id", "modal-delete-button")
    _until(button.is_displayed)
    button.click()
    _until(lambda: "Orlando!" not in titles(browser.page_source))


def _until(holds) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)
