"""Hugging Face Space that shows the demo page of a model, and does not need this package."""

import os
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

import gradio
from huggingface_hub import SpaceCardData

from ..data import readers
from ..model.storage_multihead import TASK
from ..prediction.loading import load_model
from ..utils.files import check_free
from .demo import DemoSettings

PAGE, MODEL = "multihead_demo", "model"
"""Folders of a Space: the code of the page, and a model that was a folder here."""
COPIED = ("demo.py", "demo_html.py", "demo_page.py", "demo_table.py", "demo_uploads.py")
READERS = ("readers.py", "readers_text.py")  # from `data/`; copied beside the page in a Space
REQUIREMENTS = ("gradio>=6.31,<7", "torch>=2.8.0", "transformers>=5.20.0")

_APP = '''"""The demo page of a multi-head text classifier: `python app.py`."""

from pathlib import Path

from {page}.demo import Demo, DemoSettings
from {page}.demo_page import build_page, launch_page
from transformers import pipeline

try:
    # where requirements.txt has multihead-hf[explain], the page also shows which words contribute to a label
    from multihead_hf.explanation.explain import explain
except ImportError:
    explain = None

MODEL = {model}
SETTINGS = {settings}

# this runs the code that was saved with the model
demo = Demo(pipeline("{task}", MODEL, trust_remote_code=True), SETTINGS, explain)
page = build_page(demo)

if __name__ == "__main__":
    launch_page(page, demo)
    print(f"The page is {{page.local_url}} (Ctrl+C ends it)", flush=True)
    page.block_thread()
'''

_README = """---
{metadata}
---

# Demo page

The predictions of {which} for a text, or for a file of texts: the labels of each head, with their probabilities.

- `app.py` starts the page. Its limits, title and examples are set in `SETTINGS` there.
- `{page}/` is the demo page of multihead_hf {version}. It sends no requests to other hosts; uploaded files are
  deleted within two hours.
- The page also shows which words contribute to a label where `multihead-hf[explain]` is installed.
- `trust_remote_code=True` in `app.py` runs the code that is saved with the model: read it first.
"""


def write_space(
    folder: str | os.PathLike,
    model: str,
    settings: DemoSettings,
    license_id: str | None = None,
    overwrite: bool = False,
) -> None:
    """Write a Space: `app.py`, `requirements.txt`, `README.md` with its metadata, and the code of the page.

    Args:
        folder: folder of the Space.
        model: a name on the Hub, which the Space loads, or a folder, which is copied into the Space.
        settings: title and limits of the page.
        license_id: licence of the Space, such as `"apache-2.0"`.
        overwrite: also write into a folder that is not empty. An existing Space is replaced; other files stay, except
            those in `multihead_demo/` and `model/`.

    Raises:
        ValueError: If the folder is not empty, is the model, or has a `model/` that is not a multi-head model.
    """
    directory = Path(folder)
    if os.path.isdir(model) and Path(model).resolve() in (directory.resolve(), *directory.resolve().parents):
        raise ValueError(f"{folder} is the model's folder, or inside it: use another folder for the Space")
    check_free(folder, overwrite)
    copy = directory / MODEL
    if copy.exists() and not (copy / "configuration_multihead.py").is_file():
        raise ValueError(f"{copy} was not written by this command: move it away, or use another folder")
    existed = directory.exists()
    directory.mkdir(parents=True, exist_ok=True)
    try:
        _replace(directory, model, settings, license_id)
    except BaseException:
        if not existed:
            shutil.rmtree(directory)
        raise


def _replace(directory: Path, model: str, settings: DemoSettings, license_id: str | None) -> None:
    with tempfile.TemporaryDirectory(dir=directory, prefix=".") as fresh:
        _write(Path(fresh), model, settings, license_id)
        for name in os.listdir(fresh):
            if (directory / name).is_dir():
                shutil.rmtree(directory / name)
            os.replace(Path(fresh) / name, directory / name)
        if not os.path.isdir(model) and (directory / MODEL).is_dir():  # from an earlier Space; would be published
            shutil.rmtree(directory / MODEL)


def _write(directory: Path, model: str, settings: DemoSettings, license_id: str | None) -> None:
    is_local = os.path.isdir(model)
    if is_local:
        for part in load_model(model):
            part.save_pretrained(directory / MODEL)
    (directory / PAGE).mkdir()
    (directory / PAGE / "__init__.py").write_text('"""The demo page of multihead_hf."""\n', encoding="utf-8")
    for name in COPIED:
        code = (Path(__file__).parent / name).read_text(encoding="utf-8").replace("from ..data.", "from .")
        (directory / PAGE / name).write_text(code, encoding="utf-8")
    for name in READERS:
        shutil.copyfile(Path(readers.__file__).parent / name, directory / PAGE / name)
    metadata = SpaceCardData(
        title=settings.title,
        sdk="gradio",
        sdk_version=gradio.__version__,
        app_file="app.py",
        models=None if is_local else [model],
        license=license_id,
    )
    files = {
        "app.py": _APP.format(
            page=PAGE,
            task=TASK,
            model=f'str(Path(__file__).parent / "{MODEL}")' if is_local else repr(model),
            settings=repr(settings),
        ),
        "README.md": _README.format(
            metadata=metadata.to_yaml(line_break="\n"),
            page=PAGE,
            which=f"the model in `{MODEL}/`" if is_local else f"[{model}](https://huggingface.co/{model})",
            version=version("multihead-hf"),
        ),
        "requirements.txt": "".join(f"{line}\n" for line in REQUIREMENTS),
    }
    for name, text in files.items():
        (directory / name).write_text(text, encoding="utf-8")
