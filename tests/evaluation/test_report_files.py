"""write_report on trainers and models, `multihead-hf report`, and the page in a browser."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import tiny
import torch
from command_line import cli
from datasets import DatasetDict
from training_runs import trainer_for

from multihead_hf import MultiHeadTrainer, linear_baseline, prepare_dataset, write_report
from multihead_hf.evaluation import baseline_rows as baseline_module
from multihead_hf.evaluation.predictions import targets_of
from multihead_hf.evaluation.report_files import saved_history
from multihead_hf.evaluation.report_page import files_of_report

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> MultiHeadTrainer:
    folder = tmp_path_factory.mktemp("complaints") / "complaints"
    trainer = trainer_for(
        folder,
        model=tiny.model(pooling="mean"),
        num_train_epochs=3,
        learning_rate=5e-3,
        eval_strategy="epoch",
        save_strategy="epoch",
    )
    trainer.train()
    trainer.save_model()
    return trainer


def test_report_of_a_trainer(trainer: MultiHeadTrainer, tmp_path: Path) -> None:
    rows = tiny.table(40)
    report = write_report(trainer, rows, tmp_path / "report", n_resamples=50)
    metrics = trainer.evaluate(rows)
    for name, own in report.heads.items():
        for metric, figure in own.figures.items():
            assert figure == pytest.approx(metrics[f"eval_{name}_{metric}"], abs=1e-6), (name, metric)
    assert report.title == "complaints"
    assert [picture.name for picture in report.training] == ["training_loss", "training_scores", "training_rates"]
    assert set(pd.read_parquet(tmp_path / "report" / "mistakes.parquet")["text"]) <= set(rows["text"])
    assert "topic" in str(report)


def test_prepared_rows_show_what_their_tokens_say(trainer: MultiHeadTrainer, tmp_path: Path) -> None:
    rows = tiny.table(40)
    prepared = prepare_dataset(rows, tiny.tokenizer(), trainer.model)
    report = write_report(trainer, prepared, tmp_path, n_resamples=5)
    raw = write_report(trainer, rows, tmp_path, n_resamples=5)
    for name, own in report.heads.items():
        assert list(own.mistakes["text"]) == list(raw.heads[name].mistakes["text"])


@pytest.mark.slow
def test_command_gives_the_report_of_the_call(trainer: MultiHeadTrainer, tmp_path: Path) -> None:
    rows, model = tiny.table(40), trainer.args.output_dir
    for name, table in (("rows", rows), ("train", tiny.table(64).select(range(48)))):
        frame = table.to_pandas()
        frame["mood"] = [None if value is None else tiny.MOODS[int(value)] for value in table["mood"]]
        frame.rename(columns={"mood": "feeling"}).to_json(tmp_path / f"{name}.jsonl", orient="records", lines=True)
    options = ["--train-data", tmp_path / "train.jsonl"]
    options += ["--label-column", "mood=feeling", "--label-column", "topic=topic_labels", "--n-resamples", "50"]
    options += ["--batch-size", str(trainer.args.per_device_eval_batch_size)]  # else the last digits differ
    done = cli("report", model, tmp_path / "rows.jsonl", "-o", tmp_path / "out", *options)
    assert done.returncode == 0, done.stderr
    called = write_report(trainer, rows, tmp_path / "called", n_resamples=50)
    assert json.loads((tmp_path / "out" / "report.json").read_text())["heads"] == called.to_dict()["heads"]
    assert done.stdout.splitlines()[:3] == str(called).splitlines()[:3]
    assert called.has_baselines
    assert (tmp_path / "out" / "training_loss.png").is_file()  # from the last checkpoint
    written = (tmp_path / "out" / "report.html").read_bytes()
    refused = cli("report", model, tmp_path / "rows.jsonl", "-o", tmp_path / "out", *options, "--title", "another")
    assert (refused.returncode, "report.html exists" in refused.stderr) == (1, True)
    assert (tmp_path / "out" / "report.html").read_bytes() == written
    again = [*options, "--title", "another", "--overwrite", "--json"]
    printed = cli("report", model, tmp_path / "rows.jsonl", "-o", tmp_path / "out", *again)
    assert json.loads(printed.stdout)["rows"] == 40
    assert (tmp_path / "out" / "report.html").read_bytes() != written


@pytest.mark.slow
def test_the_baseline_is_trained_on_the_rows_of_the_trainer(trainer: MultiHeadTrainer, tmp_path: Path) -> None:
    rows, training = tiny.table(40, seed=1), tiny.table(64).select(range(48))
    report = write_report(trainer, rows, tmp_path / "report", n_resamples=20)
    references = targets_of(prepare_dataset(rows, tiny.tokenizer(), trainer.model), trainer.config.heads)
    targets = targets_of(prepare_dataset(training, tiny.tokenizer(), trainer.model), trainer.config.heads)
    expected = linear_baseline(trainer.config.heads, list(training["text"]), targets, list(rows["text"]), references)
    saved = json.loads((tmp_path / "report" / "report.json").read_text())
    page = (tmp_path / "report" / "report.html").read_text()
    for name, own in report.heads.items():
        assert own.baseline is not None
        assert own.difference is not None
        assert own.baseline.figures == expected.heads[name].figures
        main = own.baseline.figures[own.main_score]
        assert own.difference.difference.value == pytest.approx(own.figures[own.main_score] - main)
        assert saved["heads"][name]["baseline"]["figures"] == expected.heads[name].figures
        assert (
            f"trained on {(targets[name].reshape(48, -1) != -100).any(1).sum()} rows): {own.main_score} {main:.3f}"
            in page
        )
        assert f"{main:.3f} ({own.difference.difference.value:+.3f})" in str(report)
    assert saved["baseline"]["heads"] == ["topic", "mood"]
    none = write_report(trainer, rows, tmp_path / "none", n_resamples=5, baseline=False)
    assert none.to_dict()["baseline"] is None
    assert "baseline" not in (tmp_path / "none" / "report.html").read_text()
    assert "linear baseline" not in str(none)


@pytest.mark.slow
def test_rows_without_their_texts_are_compared_by_their_tokens(trainer: MultiHeadTrainer, tmp_path: Path) -> None:
    rows = tiny.table(40, seed=1)
    raw = write_report(trainer, rows, tmp_path / "raw", n_resamples=5)
    prepared = write_report(
        trainer, prepare_dataset(rows, tiny.tokenizer(), trainer.model), tmp_path / "a", n_resamples=5
    )
    other = trainer_for(tmp_path / "x", model=trainer.model)
    other.raw_train_dataset = other.train_dataset
    tokens = write_report(other, rows, tmp_path / "b", n_resamples=5)
    for name, own in raw.heads.items():
        assert own.baseline is not None
        # (a word of the tokenizer is a token)
        assert [each.heads[name].baseline.figures for each in (prepared, tokens)] == [own.baseline.figures] * 2


@pytest.mark.slow
def test_without_training_rows_the_report_says_how_to_give_them(tmp_path: Path) -> None:
    model, rows = tiny.model(), tiny.table(30)
    options: dict[str, Any] = {"tokenizer": tiny.tokenizer(), "n_resamples": 5}
    report = write_report(model, rows, tmp_path / "a", **options)
    assert not report.has_baselines
    said = "There is no linear baseline: the training rows are not known; name them with train_dataset="
    assert said in str(report)
    assert said in (tmp_path / "a" / "report.html").read_text()
    training = tiny.table(48, seed=1).map(lambda row: {"text": f"{row['text']} confidential"})
    given = write_report(model, rows, tmp_path / "b", train_dataset=training, **options)
    assert given.has_baselines
    assert not any(b"confidential" in path.read_bytes() for path in (tmp_path / "b").iterdir())
    splits = DatasetDict(train=training, test=rows)
    found = write_report(model, splits, tmp_path / "c", **options)
    assert found.to_dict()["heads"] == given.to_dict()["heads"]
    own = write_report(model, splits, tmp_path / "d", split="train", **options)
    assert "the report is on the training rows themselves" in str(own)
    broken = DatasetDict(train=rows.rename_column("text", "body"), test=rows)
    told = write_report(model, broken, tmp_path / "e", **options)
    assert "There is no linear baseline: the split 'train' cannot be read: train_dataset: there is no" in str(told)
    with pytest.raises(ValueError, match="train_dataset: there is no text column 'text'"):
        write_report(model, rows, tmp_path / "f", train_dataset=broken["train"], **options)
    with pytest.raises(ValueError, match=r"train_dataset: the splits are \['test'\], without one named 'train'"):
        write_report(model, rows, tmp_path / "f", train_dataset=DatasetDict(test=rows), **options)
    stream = rows.to_iterable_dataset()
    told = write_report(model, rows, tmp_path / "g", train_dataset=stream, **options)
    assert "training rows that can be read more than once, but these are of the type IterableDataset" in str(told)


def test_of_many_rows_to_prepare_a_sample_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baseline_module, "_PREPARED_ROWS", 30)
    report = write_report(
        tiny.model(),
        tiny.table(30),
        tmp_path,
        tokenizer=tiny.tokenizer(),
        train_dataset=tiny.table(60, seed=1),
        n_resamples=5,
    )
    own = report.heads["mood"].baseline
    assert own is not None
    assert (own.rows <= 30, own.labelled_rows) == (True, None)
    assert f"trained on a sample of {own.rows} rows" in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("name", ["report.json", "mistakes.csv", "mistakes.parquet", "topic_labels.png"])
def test_a_file_of_somebody_else_is_not_replaced(trainer: MultiHeadTrainer, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    done = cli("report", trainer.args.output_dir, "rows.csv", "-o", tmp_path)
    assert done.returncode == 1
    assert f"{tmp_path / name} exists: use another folder, or replace the existing files (--overwrite)" in done.stderr
    assert (tmp_path / name).read_text() == "mine"
    done = cli("report", trainer.args.output_dir, "rows.csv", "-o", tmp_path / name)
    assert (done.returncode, f"{tmp_path / name} is a file: give a folder" in done.stderr) == (1, True)


def test_every_file_of_a_report_is_known_before(trainer: MultiHeadTrainer, tmp_path: Path) -> None:
    write_report(trainer, tiny.table(40), tmp_path, n_resamples=5)
    written = {path.name for path in tmp_path.iterdir()}
    assert {"topic_labels.png", "mood_confusion.png", "training_rates.png", "report.html"} <= written
    assert written <= set(files_of_report(["topic", "mood"]))


def test_a_report_replaces_the_files_of_an_earlier_one_only(trainer: MultiHeadTrainer, tmp_path: Path) -> None:
    write_report(trainer, tiny.table(40), tmp_path, n_resamples=5)
    (tmp_path / "own_labels.png").write_bytes(b"")
    rows = tiny.table(40).remove_columns("mood")
    write_report(trainer, rows, tmp_path, n_resamples=5, baseline=False)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"topic_labels.png", "own_labels.png", "report.html"} <= names
    assert [name for name in names if name.startswith("mood")] == []


def test_mistakes_have_the_rows_numbers_in_the_users_table(trainer: MultiHeadTrainer, tmp_path: Path) -> None:
    rows = tiny.table(40)
    taken = [31, 7, 12, 3, 25]
    report = write_report(trainer, rows.select(taken), tmp_path, n_resamples=5, row_numbers=taken)
    for head in report.heads.values():
        assert [rows["text"][row] for row in head.mistakes["row"]] == list(head.mistakes["text"])
    with pytest.raises(ValueError, match="row_numbers: 4 numbers were given for 40 rows"):
        write_report(trainer, rows, tmp_path, row_numbers=[0, 1, 2, 3])


def test_few_rows_have_no_interval_of_the_difference_either(trainer: MultiHeadTrainer, tmp_path: Path) -> None:
    few = write_report(trainer, tiny.table(4), tmp_path, n_resamples=50)
    assert {head.difference_interval for head in few.heads.values()} == {"too few rows for an interval"}
    assert "(too few rows for an interval)" in (tmp_path / "report.html").read_text()
    many = write_report(trainer, tiny.table(40), tmp_path, n_resamples=50)
    assert all(
        re.fullmatch(r"interval [+-]0\.\d{3} to [+-]0\.\d{3}", head.difference_interval) for head in many.heads.values()
    )


@pytest.mark.slow
def test_parts_of_a_folder(trainer: MultiHeadTrainer, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for part, rows in (("train", 30), ("test", 20)):
        tiny.table(rows).to_parquet(data / f"{part}.parquet")
    model = trainer.args.output_dir
    arguments = ["report", model, data, "-o", tmp_path / "out", "--n-resamples", "5", "--json", "--overwrite"]
    printed = json.loads(cli(*arguments).stdout)
    assert printed["rows"] == 20
    assert printed["baseline"]["heads"] == ["topic", "mood"]  # trained on the split train
    assert json.loads(cli(*arguments, "--split", "train").stdout)["rows"] == 30
    assert json.loads(cli(*arguments, "--no-baseline").stdout)["baseline"] is None
    done = cli(*arguments, "--split", "dev")
    assert done.returncode == 1
    assert "the splits are ['train', 'test']" in done.stderr
    assert write_report(trainer, data, tmp_path / "called", n_resamples=5).rows == 20


def test_a_report_in_the_folder_of_a_model_would_be_pushed(trainer: MultiHeadTrainer, tmp_path: Path) -> None:
    output = Path(trainer.args.output_dir)
    for folder in (output, output / "report", output / "a" / "_report"):
        with pytest.raises(ValueError, match="would be pushed with it, including the texts"):
            write_report(trainer, tiny.table(4), folder)
    done = cli("report", output, "nothing.csv", "-o", output / "checkpoint-6" / "report")
    assert "nothing.csv" in done.stderr
    assert (
        write_report(trainer, tiny.table(8), output / "_report" / "b", n_resamples=5).folder == output / "_report" / "b"
    )


def test_a_model_is_left_as_it_was(tmp_path: Path) -> None:
    model = tiny.model().train()
    model.encoder.requires_grad_(False)
    model.heads["mood"].half()
    rows = tiny.table(8).rename_column("text", "body")
    write_report(model, rows, tmp_path, tokenizer=tiny.tokenizer(), text_columns=["body"], max_length=9, n_resamples=2)
    assert model.config.text_columns is None
    assert model.config.max_length is None
    assert not any(parameter.requires_grad for parameter in model.encoder.parameters())
    assert all(parameter.requires_grad for parameter in model.heads.parameters())
    assert next(model.heads["mood"].parameters()).dtype == torch.float16
    assert model.training


def test_bad_calls(trainer: MultiHeadTrainer, tmp_path: Path) -> None:
    rows, tokenizer = tiny.table(4), tiny.tokenizer()
    with pytest.raises(ValueError, match=r"'text_colums'.* Did you mean 'text_columns'"):
        write_report(tiny.model(), rows, tmp_path, tokenizer=tokenizer, text_colums=["text"])
    with pytest.raises(ValueError, match="a MultiHeadModel is expected, not its name"):
        write_report("model", rows, tmp_path, tokenizer=tokenizer)
    with pytest.raises(ValueError, match="the dataset is empty"):
        write_report(trainer, rows.select([]), tmp_path)
    with pytest.raises(ValueError, match=r"n_resamples 2\.5: give a whole number of 2 or more"):
        write_report(trainer, rows, tmp_path, n_resamples=2.5)
    with pytest.raises(ValueError, match=r"the splits are \['a'\]: choose one of them as split"):
        write_report(trainer, DatasetDict(a=rows), tmp_path)
    assert not list(tmp_path.iterdir())


def test_history_of_saved_models(trainer: MultiHeadTrainer, tmp_path: Path) -> None:
    assert (
        saved_history(trainer.args.output_dir)
        == trainer.state.log_history[: len(saved_history(trainer.args.output_dir))]
    )
    assert saved_history(tmp_path) == []


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["nowhere", "rows.csv", "-o", "out"], 1, "nowhere is not a local folder"),
        (["MODEL", "rows.csv", "-o", "out"], 1, "rows.csv"),
        (["MODEL", "DATA", "-o", "out", "--label-column", "colour=x"], 2, "there is no head 'colour'"),
        (["MODEL", "TEXTS", "-o", "out"], 1, "no row of the dataset is labelled for any of the heads"),
        (["MODEL", "WRONG", "-o", "out"], 1, "'furious' is not one of the head's 2 labels"),
    ],
)
def test_bad_input_writes_nothing(
    trainer: MultiHeadTrainer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    code: int,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    pd.DataFrame({"text": ["w1", "w2"], "mood": ["calm", "furious"]}).to_csv("wrong.csv", index=False)
    pd.DataFrame({"text": ["w1", "w2"]}).to_csv("texts.csv", index=False)
    tiny.table(5).to_parquet("data.parquet")
    names = {"MODEL": trainer.args.output_dir, "DATA": "data.parquet", "TEXTS": "texts.csv", "WRONG": "wrong.csv"}
    done = cli("report", *(names.get(word, word) for word in arguments))
    assert done.returncode == code
    assert message in re.sub(r"\s*[│\n]\s*", " ", done.stderr)
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


PROBE = """
<script>
window.addEventListener("load", () => {
  const say = (key, value) => document.body.setAttribute("data-" + key, value);
  const scores = () => [...wrong.tBodies[0].rows].filter(row => !row.hidden).map(row => parseFloat(row.cells[5].textContent));
  say("first", scores().join(" "));
  [...wrong.tHead.rows[0].cells][5].querySelector("button").click();
  say("clicked", scores().join(" "));
  which.value = "2"; which.oninput();
  say("heads", [...new Set([...wrong.tBodies[0].rows].filter(row => !row.hidden).map(row => row.cells[0].textContent))].join(" "));
  which.value = ""; search.value = "no such text"; search.oninput();
  say("shown", document.getElementById("shown").textContent);
  say("overflow", document.documentElement.scrollWidth - document.documentElement.clientWidth);
  say("width", document.documentElement.clientWidth);
  say("broken", [...document.images].filter(image => !image.naturalWidth).length);
});
</script>
"""


@pytest.mark.browser
@pytest.mark.skipif(BROWSER is None, reason="no chromium: apt-get install chromium")
@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_in_a_browser(trainer: MultiHeadTrainer, tmp_path: Path, width: int) -> None:
    """Sorting, filtering and searching work, every picture shows, and nothing is wider than the window or the phone."""
    report = write_report(trainer, tiny.table(60), tmp_path, n_resamples=5)
    assert all(len(own.mistakes) for own in report.heads.values())
    page = (tmp_path / "report.html").read_text().replace("</body>", PROBE + "</body>")
    # a window is never as narrow as a phone, a frame is
    framed = page.replace("&", "&amp;").replace('"', "&quot;")
    copy = "frames[0].addEventListener('load', () => setTimeout(() => Object.assign(document.body.dataset, document.querySelector('iframe').contentDocument.body.dataset), 200))"
    (tmp_path / "frame.html").write_text(
        f'<meta charset="utf-8"><iframe style="width:{width}px;height:800px;border:0" srcdoc="{framed}"></iframe>'
        f"<script>{copy}</script>"
    )
    command = [BROWSER, "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    done = subprocess.run(
        [
            *command,
            "--window-size=1400,900",
            "--virtual-time-budget=10000",
            "--dump-dom",
            f"file://{tmp_path}/frame.html",
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    body = re.search(r"<body[^>]*>", done.stdout)
    assert body is not None
    found: dict[str, Any] = dict(re.findall(r'data-(\w+)="([^"]*)"', body.group()))
    first, clicked = ([float(value) for value in found[key].split()] for key in ("first", "clicked"))
    assert first == sorted(first, reverse=True)
    assert clicked == sorted(clicked)
    assert len(first) == sum(len(own.mistakes) for own in report.heads.values())
    assert found["heads"] == "mood"
    assert found["shown"] == "0 shown"
    assert abs(int(found["width"]) - width) < 20
    assert int(found["overflow"]) <= 0
    assert found["broken"] == "0"
