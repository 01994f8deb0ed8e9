"""Install the wheel and the sdist of a folder, each into an empty environment, and try it there.

    python .ci/release_check.py dist
    python .ci/release_check.py dist --packages-of .venv/bin/python   # quick: dependencies are those of another Python

The trial runs in an empty folder with a Python that cannot see this repository: a model is trained, saved, loaded with
the package and without it, and the command line answers.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

NEEDED = (
    "multihead_hf/py.typed",
    "multihead_hf/evaluation/report_template.html",
    "multihead_hf/publishing/card_template.md",
)
TRIAL = """
from pathlib import Path

import multihead_hf
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast, pipeline

assert "site-packages" in multihead_hf.__file__, multihead_hf.__file__
words = ["[PAD]", "[UNK]", "late", "broken", "rude", "parcel", "cup"]
backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
backend.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]")
sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
BertModel(BertConfig(vocab_size=len(words), **sizes)).save_pretrained("encoder")
tokenizer.save_pretrained("encoder")
rows = Dataset.from_dict(
    {"text": ["late parcel", "broken cup"] * 8, "topics": [["delivery"], ["damage"]] * 8, "mood": ["angry", "calm"] * 8}
)
heads = multihead_hf.infer_heads(rows, ["topics", "mood"])
trainer = multihead_hf.MultiHeadTrainer(
    model=multihead_hf.MultiHeadModel.from_encoder("encoder", heads=heads, pooling="mean"),
    args=multihead_hf.MultiHeadTrainingArguments("model", max_steps=3, report_to=[]),
    train_dataset=rows,
    processing_class=tokenizer,
)
trainer.train()
trainer.save_model()
answer = multihead_hf.MultiHeadPredictor.from_pretrained("model").predict(["late parcel"])
assert set(answer) == {"topics", "mood"}, answer
assert Path("model/modeling_multihead.py").is_file()
"""
WITHOUT_PACKAGE = """
import sys

sys.modules["multihead_hf"] = None  # as where it is not installed
from transformers import pipeline

predict = pipeline("multi-head-text-classification", "model", trust_remote_code=True)
assert set(predict("late parcel")[0]) == {"topics", "mood"}
"""


def run(command: list[str], folder: Path) -> str:
    """Run a command in `folder`, and show its output if it fails."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment = {**kept, "HF_HUB_OFFLINE": "1", "HF_HOME": str(folder / "home"), "OMP_NUM_THREADS": "2"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}")
    return done.stdout


def check_contents(wheel: Path) -> None:
    """Check that the wheel holds only the package with its data files."""
    names = zipfile.ZipFile(wheel).namelist()
    missing = [name for name in NEEDED if name not in names]
    strange = [name for name in names if not name.startswith("multihead_hf")]
    if missing or strange:
        raise SystemExit(f"{wheel.name}: missing {missing}, not of the package {strange}")


def try_distribution(path: Path, packages_of: str | None, creator: str) -> None:
    """Install one file into an empty environment, and run the trial."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run([creator, "-m", "venv", str(folder / "venv")], folder)
        python = folder / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
        install = [str(python), "-m", "pip", "--disable-pip-version-check", "-q", "install"]
        if packages_of is None:
            run([*install, f"{path}[cli]"], folder)
        else:
            run([*install, "--no-deps", str(path)], folder)
            ask = "import sysconfig; print(sysconfig.get_paths()['purelib'])"
            theirs, ours = (run([each, "-c", ask], folder).strip() for each in (packages_of, str(python)))
            Path(ours, "packages_of_another_python.pth").write_text(theirs + "\n", encoding="utf-8")
        run([str(python), "-c", TRIAL], folder)
        run([str(python), "-c", WITHOUT_PACKAGE], folder)
        version = run([str(python), "-m", "multihead_hf.cli", "--version"], folder)
        run([str(python), "-m", "multihead_hf.cli", "evaluate", "--help"], folder)
        print(f"{path.name}: installed into an empty environment and tried; {version.strip()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the wheel and the sdist")
    parser.add_argument("--packages-of", help="a Python whose packages are used in place of installing dependencies")
    parser.add_argument("--python", default=sys.executable, help="Python of the environments (default: this one)")
    options = parser.parse_args()
    wheels, sdists = (sorted(options.folder.glob(pattern)) for pattern in ("*.whl", "*.tar.gz"))
    if (len(wheels), len(sdists)) != (1, 1):
        raise SystemExit(f"{options.folder} holds {len(wheels)} wheels and {len(sdists)} sdists: expected one of each")
    check_contents(wheels[0])
    packages_of = options.packages_of and str(Path(options.packages_of).absolute())
    for path in (*wheels, *sdists):
        try_distribution(path.resolve(), packages_of, options.python)


if __name__ == "__main__":
    main()
