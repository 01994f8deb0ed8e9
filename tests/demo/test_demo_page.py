"""The demo page as users meet it: in a browser, and over HTTP for those who mean no good."""

import csv
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import gradio as gr
import httpx
import pytest
import tiny
from demo_models import TOPICS, knowing_model, save
from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from transformers import pipeline

from multihead_hf import HeadConfig, explain
from multihead_hf.demo.demo import Demo, DemoSettings
from multihead_hf.demo.demo_page import build_page, said_in_the_page

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
ATTACK = """<img src=x onerror="document.title='taken'">"""


class Server:
    """`multihead-hf demo` in a process of its own."""

    def __init__(self, model: Path, *options: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.home, self.url = model.parent, f"http://127.0.0.1:{port}"
        self.temporary = self.home / "tmp"
        self.temporary.mkdir()
        (self.home / "secret.txt").write_text("a secret")
        command = [sys.executable, "-m", "multihead_hf.cli", "demo", str(model), "--port", str(port), *options]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(self.temporary)}
        environment["PYTHONPATH"] = str(Path(__file__).parents[2])
        self.log = self.home / "log"
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(command, cwd=self.home, env=environment, stdout=log, stderr=log)
        until(lambda: "The page is" in self.log.read_text() or self.process.poll() is not None, 120)
        assert self.process.poll() is None, self.log.read_text()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


def until(holds: Callable[[], Any], seconds: float = 30) -> Any:
    """What `holds` gives, when it is something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            found = holds()
        except (NoSuchElementException, StaleElementReferenceException):
            found = None
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} seconds")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    model = save(knowing_model(), tmp_path_factory.mktemp("demo") / "model")
    (model / "model_card.json").write_text(json.dumps({"widget_texts": ["w2 w40", ATTACK]}))
    server = Server(model, "--title", f"Complaints {ATTACK}", "--max-rows", "20", "--max-file-mb", "0.01")
    yield server
    server.stop()
    assert list(server.temporary.iterdir()) == []  # uploads and results
    assert "could not answer" not in server.log.read_text(), server.log.read_text()


class Page:
    """The page in a headless browser that finds no other host, with the few things that people do there."""

    def __init__(self, url: str, downloads: Path) -> None:
        options = webdriver.ChromeOptions()
        options.binary_location = BROWSER
        for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
            options.add_argument(argument)
        options.add_argument("--window-size=1280,1600")
        options.add_argument("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1")
        options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
        options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
        self.driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
        self.driver.get(url)
        self.box = until(lambda: self.one("#mh-text-0 textarea"), 60)

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def predict(self, text: str) -> None:
        self.box.clear()
        self.box.send_keys(text, Keys.ENTER)

    def type_number(self, selector: str, value: str) -> None:
        """Until it stands there for a while: an answer that comes just then may draw the field anew."""

        def typed() -> bool:
            field = self.one(selector)
            field.send_keys(Keys.CONTROL, "a")
            field.send_keys(value, Keys.TAB)
            time.sleep(1)
            return self.one(selector).get_attribute("value") == value

        until(typed)

    def labels(self, predicted: bool = True) -> dict[str, list[str]]:
        """Head → labels that are shown; the predicted ones only, or all."""
        cards = self.all("#mh-results .mh-head")
        selector = ".mh-on .mh-name" if predicted else ".mh-name"
        return {
            card.find_element(By.TAG_NAME, "h3").text: [
                each.get_attribute("textContent") for each in card.find_elements(By.CSS_SELECTOR, selector)
            ]
            for card in cards
        }

    def shows(self, predicted: bool = True, **heads: list[str]) -> None:
        """Wait until the labels of these heads are shown, in any order."""
        wanted = {name: sorted(labels) for name, labels in heads.items()}

        def there() -> bool:
            found = self.labels(predicted)
            return {name: sorted(found.get(name, ["?"])) for name in wanted} == wanted

        try:
            until(there)
        except AssertionError:
            raise AssertionError(f"{wanted} is not shown; there is {self.labels(predicted)}") from None

    def choose(self, box: str, option: str) -> None:
        """An option of a dropdown."""
        self.one(f"#{box} input").click()
        options = until(lambda: self.all(f"#{box} ul[role=listbox] li, ul[role=listbox] li"))
        next(each for each in options if each.get_attribute("aria-label") == option).click()

    def click(self, selector: str, text: str = "") -> None:
        next(each for each in self.all(selector) if text in each.text).click()

    def error(self, text: str) -> WebElement:
        return until(lambda: next((each for each in self.all(".toast-body") if text in each.text), None))

    def requests(self) -> set[str]:
        """Addresses of which the browser asked something so far."""
        messages = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
        return {
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        }


@pytest.fixture
def page(server: Server, tmp_path: Path) -> Iterator[Page]:
    if BROWSER is None or DRIVER is None:
        pytest.skip("no browser: apt-get install chromium chromium-driver")
    page = Page(server.url, tmp_path)
    yield page
    page.driver.quit()


@pytest.mark.slow
@pytest.mark.browser
def test_a_text_in_the_browser(page: Page, server: Server) -> None:
    page.predict("w1 w40")
    page.shows(topic=["roads"], **{"<i>mood</i>": ["calm"]})
    page.predict("w2 w5")
    page.shows(topic=["waste"], **{"<i>mood</i>": ["angry"]})
    page.predict("w3 w7")
    page.shows(topic=[TOPICS[2]])
    page.click("#mh-submit")
    page.click(".gallery-item", "w2 w40")  # an example is predicted at once
    page.shows(topic=["waste"])
    page.predict("w1")
    page.shows(topic=["roads"])

    # a threshold decides instead of the saved ones, and these decide again
    page.type_number("#mh-threshold input[type=number]", "0.05")
    page.shows(topic=["roads", "waste", TOPICS[2]])
    assert not page.one("#mh-saved input").is_selected()
    page.one("#mh-threshold input[type=range]").send_keys(Keys.END)
    page.shows(topic=[], **{"<i>mood</i>": ["calm"]})
    page.one("#mh-saved input").click()
    page.shows(topic=["roads"])

    page.click("#mh-view label", "All labels")
    page.shows(False, topic=["roads", "waste", TOPICS[2]], **{"<i>mood</i>": ["calm", "angry"]})
    page.shows(topic=["roads"])  # is marked
    page.click("#mh-view label", "Most probable")
    until(lambda: page.one("#mh-top-k input[type=number]"))
    page.type_number("#mh-top-k input[type=number]", "1")
    page.shows(False, topic=["roads"], **{"<i>mood</i>": ["calm"]})
    page.choose("mh-heads", "<i>mood</i>")
    until(lambda: list(page.labels()) == ["<i>mood</i>"])

    for address in page.requests():
        assert address.startswith(("data:", "blob:", server.url)), address


@pytest.mark.browser
def test_words_in_the_browser(page: Page) -> None:
    page.predict("w7 w1 <b>")
    page.shows(topic=["roads"])
    page.click("#mh-words button")
    until(lambda: page.one("#mh-words-label input").get_attribute("value") == "roads")
    page.click("#mh-words-show")
    marks = {each.text: float(each.get_attribute("title")) for each in until(lambda: page.all("#mh-words-shown mark"))}
    assert marks["w1"] > 0.1 > abs(marks["w7"])
    assert "w7 w1 <b>" in page.one("#mh-words-shown").text
    page.choose("mh-words-head", "<i>mood</i>")
    until(lambda: page.one("#mh-words-label input").get_attribute("value") == "calm")
    page.choose("mh-words-label", "angry")
    page.click("#mh-words-method label", "Integrated")
    page.click("#mh-words-show")
    until(lambda: "angry" in page.one("#mh-words-shown").text)
    assert "integrated gradients" in page.one("#mh-words-shown").text


@pytest.mark.browser
def test_a_file_in_the_browser(page: Page, tmp_path: Path) -> None:
    page.click("button[role=tab]", "A file")
    texts = ["w1 w40", ATTACK, "w2 w5", ""]
    with open(tmp_path / "mine.csv", "w", newline="") as file:
        csv.writer(file).writerows([["id", "text"], *([f"0{place}", text] for place, text in enumerate(texts))])
    page.one("#mh-file input[type=file]").send_keys(str(tmp_path / "mine.csv"))
    until(lambda: "mine" in page.one("#mh-file").text)
    page.click("#mh-file-submit")
    until(lambda: "4 rows predicted" in page.one("#mh-file-said").text)
    until(lambda: page.one("#mh-download")).click()
    path = tmp_path / "mine-predictions.csv"
    until(path.is_file)
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    pipe = pipeline("multi-head-text-classification", model=knowing_model(), tokenizer=tiny.tokenizer())
    assert [(row["id"], row["text"]) for row in rows] == [(f"0{place}", text) for place, text in enumerate(texts)]
    for row, own in zip(rows, pipe(texts), strict=True):
        for head in own:
            assert row[f"predicted_{head}"] == "|".join(each["label"] for each in own[head])
    assert rows[0]["predicted_topic"] == "roads"
    assert rows[2]["predicted_<i>mood</i>"] == "angry"


@pytest.mark.browser
def test_errors_and_attacks_are_sentences_in_the_browser(page: Page, tmp_path: Path) -> None:
    page.click("#mh-submit")
    page.error("Type a text first")
    page.predict(ATTACK)
    until(lambda: page.labels())
    page.click("button[role=tab]", "A file")
    page.click("#mh-file-submit")
    page.error("Choose a file first")
    (tmp_path / "bad.csv").write_text(f"txt,{ATTACK}\na,b\n")
    page.one("#mh-file input[type=file]").send_keys(str(tmp_path / "bad.csv"))
    until(lambda: "bad" in page.one("#mh-file").text)
    page.click("#mh-file-submit")
    assert "<img src=x" in page.error("has no column 'text'").text
    (tmp_path / "large.csv").write_text("text\n" + "w1 " * 10_000)
    assert "at most 20 rows, 0.01 MB" in page.one("body").text
    assert ATTACK in page.one("h1").text
    assert page.all("img[src='x']") == []
    assert page.driver.title == f"Complaints {ATTACK}"


def shown(page: gr.Blocks) -> dict[str, dict[str, Any]]:
    """Components by their id on the page."""
    config = page.get_config_file()
    return {each["props"]["elem_id"]: each["props"] for each in config["components"] if each["props"].get("elem_id")}


def test_pages_of_other_models() -> None:
    """Pairs of texts, one head without thresholds, and where words cannot be explained."""
    pairs = tiny.model(text_columns=["question", "answer"])
    one = tiny.model(heads={"mood": HeadConfig(tiny.MOODS)})
    for model, function in ((pairs, explain), (one, None)):
        pipe = pipeline("multi-head-text-classification", model=model, tokenizer=tiny.tokenizer())
        found = shown(build_page(Demo(pipe, DemoSettings(), function)))
        assert ("mh-text-1" in found) == (model is pairs)
        assert found["mh-text-0"]["label"] == ("question" if model is pairs else "Text")
        assert found["mh-heads"]["visible"] == (model is pairs)
        assert ("mh-words-show" in found) == (model is pairs)
        assert found["mh-top-k"]["maximum"] == (3 if model is pairs else 2)


def test_errors_say_no_more_than_they_should(caplog: pytest.LogCaptureFixture) -> None:
    def wrong(error: Exception) -> None:
        raise error

    handler = said_in_the_page(wrong)
    with pytest.raises(gr.Error) as found:
        handler(ValueError(f"no column\n  {ATTACK}"))
    assert found.value.message == "No column &lt;img src=x onerror=&quot;document.title=&#x27;taken&#x27;&quot;&gt;"
    assert not caplog.records
    with pytest.raises(gr.Error) as found:
        handler(KeyError("/home/me/secret"))
    assert "secret" not in found.value.message
    assert "secret" in caplog.text  # for the one who runs it


def event(server: Server, client: httpx.Client, target: str, data: list[Any]) -> dict[str, Any]:
    """What the page's server answers to the event of a click on a component."""
    config = client.get(f"{server.url}/config").json()
    component = next(each["id"] for each in config["components"] if each["props"].get("elem_id") == target)
    number = next(each["id"] for each in config["dependencies"] if [component, "click"] in each["targets"])
    session = secrets.token_hex(5)
    body = {"data": data, "fn_index": number, "session_hash": session}
    joined = client.post(f"{server.url}/gradio_api/queue/join", json=body)
    assert joined.status_code == 200, joined.text
    with client.stream("GET", f"{server.url}/gradio_api/queue/data", params={"session_hash": session}) as lines:
        for line in lines.iter_lines():
            message = json.loads(line.removeprefix("data: ")) if line else {}
            if message.get("msg") == "process_completed":
                return message
    raise AssertionError("no answer")


def file_data(path: str) -> dict[str, Any]:
    return {"path": path, "orig_name": "rows.csv", "meta": {"_type": "gradio.FileData"}}


def test_no_file_of_the_machine_can_be_read(server: Server, tmp_path: Path) -> None:
    own = tmp_path / "rows.csv"
    own.write_text("text\nw1\n")
    with httpx.Client(timeout=30, trust_env=False) as client:
        for path in (
            "/etc/passwd",
            server.home / "secret.txt",
            "secret.txt",
            server.home / "model" / "config.json",
            own,
        ):
            answer = client.get(f"{server.url}/gradio_api/file={path}")
            assert answer.status_code in (403, 404), path
        for path in (own, "/etc/passwd"):
            answer = event(server, client, "mh-file-submit", [file_data(str(path))])
            assert not answer["success"]
            assert "predicted" not in json.dumps(answer)
        answer = event(server, client, "mh-file-submit", [file_data(f"{server.url}/config")])
        assert answer["output"]["error"] == "Upload a file"  # it is not fetched


def test_limits_hold_without_the_page_as_well(server: Server) -> None:
    with httpx.Client(timeout=30, trust_env=False) as client:
        files = {"files": ("rows.csv", b"text\n" + b"w1 " * 10_000)}
        assert client.post(f"{server.url}/gradio_api/upload", files=files).status_code == 413
        many = [("files", (f"{number}.csv", b"text\n" + b"w1 " * 3_000)) for number in range(25)]
        assert client.post(f"{server.url}/gradio_api/upload", files=many).status_code == 413
        unsaid = client.post(f"{server.url}/gradio_api/upload", content=iter([b"x"] * 9))
        assert unsaid.status_code == 411
        files = {"files": ("rows.csv", b"text\n" + b"w1\n" * 21)}
        uploaded = client.post(f"{server.url}/gradio_api/upload", files=files)
        assert uploaded.status_code == 200, uploaded.text
        answer = event(server, client, "mh-file-submit", [file_data(uploaded.json()[0])])
        assert answer["output"]["error"] == "The file has more than 20 rows: split it"
        options = ["Predicted", 2, True, 0.5, []]
        answer = event(server, client, "mh-submit", ["w1 " * 7_000, *options])
        assert not answer["success"]
        assert "20,000" in json.dumps(answer)


def test_the_page_asks_nothing_of_other_hosts(server: Server) -> None:
    """No fonts, scripts or pictures from elsewhere in what the browser loads at first (its own log is checked, too)."""
    with httpx.Client(timeout=30, trust_env=False) as client:
        config = client.get(f"{server.url}/config").json()
        assert config["stylesheets"] == []
        assert not config["analytics_enabled"]
        assert config.get("run_history") in (None, False)
        theme = client.get(f"{server.url}/theme.css").text
        assert not re.search(r"@import|url\(.?(?!data:)\w*:?//", theme)


def test_it_listens_at_this_machine_only(server: Server) -> None:
    """127.0.0.2 is this machine too: a server for everyone would answer there."""
    port = urlsplit(server.url).port
    for address, answers in (("127.0.0.1", True), ("127.0.0.2", False)):
        with socket.socket() as client:
            assert (client.connect_ex((address, port)) == 0) == answers, address
