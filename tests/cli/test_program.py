"""The program: its commands, help, version and exit codes, and how it fails."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import tiny
from command_line import cli

import multihead_hf
from multihead_hf.cli import COMMANDS


def test_errors_are_one_line_and_exit_code_1(table: Path, tmp_path: Path) -> None:
    for arguments, expected in (
        ([tmp_path / "no.csv", "--label-column", "mood"], "no.csv: there is no such file"),
        ([table, "--label-column", "modo"], "Did you mean 'mood'?"),
        ([table, "--label-column", "mood", "--text-column", "tekst"], "there is no text column 'tekst'"),
        ([table, "--model", tmp_path], f"{tmp_path} is not a saved model: it has no config.json"),
        (
            [table, "--model", tiny.save_encoder(tmp_path / "bert")],
            "is a model of the type 'bert', without named heads",
        ),
    ):
        done = cli("inspect", *arguments)
        assert done.returncode == 1
        assert done.stderr.startswith("multihead-hf: ")
        assert expected in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert done.stdout == ""
    with pytest.raises(ValueError, match="there is no such file"):
        cli("--debug", "inspect", tmp_path / "no.csv", "--label-column", "mood")


@pytest.mark.slow
def test_the_program_is_installed(tmp_path: Path) -> None:
    command = [Path(sys.executable).with_name("multihead-hf"), "inspect", "no.csv", "--label-column", "mood"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == "multihead-hf: no.csv: there is no such file, and no file matches it.\n"


def test_wrong_usage_is_exit_code_2(table: Path) -> None:
    for arguments in (
        ["inspect"],
        ["inspect", str(table)],
        ["inspect", str(table), "--label-column", "=mood"],
        ["inspect", str(table), "--label-column", "mood", "--batch-size", "0"],
        ["inspct", str(table)],
    ):
        done = cli(*arguments)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
    assert "--label-column topic" in " ".join(cli("inspect", table).stderr.replace("│", " ").split())


def test_without_typer_it_says_what_to_type() -> None:
    script = "import sys; sys.modules['typer'] = None; import multihead_hf.cli"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.strip() == 'The command line needs typer: pip install "multihead-hf[cli]"'


def test_help_names_every_command_and_option() -> None:
    assert "inspect" in cli("--help").stdout
    assert cli().returncode == 2
    shown = cli("inspect", "--help").stdout
    for option in ("--label-column", "--model", "--json", "--sep", "--rare-below"):
        assert option in shown


def test_help_says_what_to_install_as_it_is_typed() -> None:
    for command in ("explain", "export", "demo", "report", "predict", "train"):
        shown = " ".join(cli(command, "--help").stdout.split())
        assert "multihead-hf or" not in shown
        assert '"multihead-hf"' not in shown


def test_version() -> None:
    assert cli("--version") == (0, f"multihead-hf {multihead_hf.__version__}\n", "")


def test_commands_are_listed_in_the_order_of_the_work_and_each_has_a_module() -> None:
    listed = re.findall(r"^  ([a-z-]+)  +[A-Z]", cli("--help").stdout.partition("Commands:")[2], re.M)
    assert listed == list(COMMANDS)
    assert listed.index("inspect") < listed.index("train") < listed.index("evaluate") < listed.index("predict")
    for name in listed:
        assert cli(name, "--help").returncode == 0
    shared = {"__init__", "__main__", "expansion", "options", "run_keys", "signatures"}
    modules = {path.stem for path in Path(multihead_hf.__file__).parent.glob("cli/*.py")}
    assert modules - shared == {name.replace("-", "_") for name in COMMANDS}


def test_a_wrong_command_is_told_the_near_one() -> None:
    done = cli("evalute")
    assert done.returncode == 2
    assert "No such command 'evalute'. Did you mean 'evaluate'?" in done.stderr


HEAVY = ("torch", "transformers", "datasets", "pandas", "pyarrow", "numpy", "sklearn", "accelerate")
QUICK = [
    ["--help"],
    ["--version"],
    ["--nothing"],
    ["evalute"],
    *([name, "--help"] for name in COMMANDS),
    *([name, "--nothing"] for name in COMMANDS),
    ["train", "wrong.yaml"],
    ["train", "right.yaml", "--set", "training.learning_rat=1"],
    ["train", "no.yaml"],
    ["explain", "model", "text", "--method", "shap"],
    ["tune-thresholds", "model", "rows.csv", "--costs", "1", "5"],
]


def test_help_and_wrong_usage_load_no_heavy_library(tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text("model: {encodr: x}\n")
    (tmp_path / "right.yaml").write_text("model: {encoder: x}\n")
    script = f"""
import sys
from multihead_hf.cli import main
for arguments in {QUICK!r}:
    sys.argv = ["multihead-hf", *arguments]
    try:
        main()
    except SystemExit:
        pass
    loaded = [name for name in {HEAVY!r} if name in sys.modules]
    assert not loaded, (arguments, loaded)
print("done", file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.endswith("done\n")
    assert done.stderr.count("Unknown key '") == 2


@pytest.mark.slow
def test_importing_the_package_loads_nothing_and_its_names_all_exist() -> None:
    script = f"""
import sys
import multihead_hf
assert not [name for name in {HEAVY!r} if name in sys.modules]
from multihead_hf import *
assert not set(multihead_hf.__all__) - set(globals()), set(multihead_hf.__all__) - set(globals())
assert set(multihead_hf.__all__) <= set(dir(multihead_hf))
"""
    subprocess.run([sys.executable, "-c", script], check=True)


@pytest.mark.slow
def test_a_name_of_the_model_room_makes_models_known_to_transformers(tmp_path: Path) -> None:
    tiny.model().save_pretrained(tmp_path)
    script = """
import sys
from multihead_hf import MultiHeadConfig
from transformers import AutoModel
assert type(AutoModel.from_pretrained(sys.argv[1])).__module__ == "multihead_hf.model.modeling_multihead"
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True)


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--epochs", "--set training.num_train_epochs=VALUE"),
        ("--batch-size", "--set training.per_device_train_batch_size=VALUE"),
        ("--learnin-rate", "--set training.learning_rate=VALUE"),
        ("--lable-column", "(Possible options: --label-column, --text-column)"),
        ("--output", "(Possible options: --output-dir)"),
    ],
)
def test_an_unknown_option_of_a_training_is_said_as_a_setting(option: str, said: str) -> None:
    done = cli("train", "rows.csv", option, "3")
    assert done.returncode == 2
    assert f"No such option: {option}" in done.stderr
    assert said in done.stderr
