"""`multihead-hf demo`: show a saved model as a page."""

import os
import signal
import sys
import tempfile
from importlib.util import find_spec
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .expansion import library
from .options import NAME, ModelArgument, OverwriteFolderOption

if TYPE_CHECKING:
    from ..demo.demo import DemoSettings

HERE = ("127.0.0.1", "localhost", "::1")


def command(
    model: ModelArgument,
    page: Annotated[
        dict[str, Any],
        library(
            "demo.demo.DemoSettings",
            "examples",
            title={"type": str | None, "default": None},
            max_rows={"min": 1},
            max_file_mb={"min": 0.001},
            max_chars={"min": 1},
        ),
    ],
    host: Annotated[
        str, typer.Option(help="Address to listen at. 0.0.0.0 shows the page to everyone who can reach this machine.")
    ] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="Default: the first free port from 7860.", min=1, max=65535)] = None,
    space: Annotated[
        str | None, typer.Option(help="Write the page into this folder as a Hugging Face Space, without starting it.")
    ] = None,
    overwrite: OverwriteFolderOption = False,
) -> None:
    """Show a saved model as a page for a browser: labels and probabilities of a text, and files of texts."""
    if find_spec("gradio") is None:
        raise ImportError('The demo page needs gradio: pip install "multihead-hf[demo]"')
    from ..demo.demo import DemoSettings
    from ..prediction.loading import saved_config
    from ..publishing.card import read_facts
    from ..publishing.card_facts import CardFacts

    pairs = len(saved_config(model).text_columns or ["text"]) > 1
    if pairs and page["examples"]:
        raise typer.BadParameter(
            "the model reads pairs of texts, but an example is a single text: leave --example out",
            param_hint="--example",
        )
    is_local = os.path.isdir(model)
    facts = read_facts(model) if is_local else CardFacts()
    page["title"] = page["title"] or os.path.basename(os.path.abspath(model) if is_local else model)
    page["examples"] = page["examples"] or ([] if pairs else facts.widget_texts)
    settings = DemoSettings(**page)
    if space is not None:
        from ..demo.space import write_space

        write_space(space, model, settings, facts.license, overwrite)
        print(f"The Space is {space}: look at it with python {os.path.join(space, 'app.py')}")
        return
    if host not in HERE:
        print(f"{NAME}: everyone who can reach {host} can use this page, without a password", file=sys.stderr)
    _serve(model, settings, host, port)


def _serve(model: str, settings: "DemoSettings", host: str, port: int | None) -> None:
    """Show the page until Ctrl+C."""
    from transformers import pipeline

    from .. import explain
    from ..demo.demo import Demo
    from ..model.storage_multihead import TASK
    from ..prediction.loading import load_model

    loaded, tokenizer = load_model(model)
    demo = Demo(pipeline(TASK, model=loaded, tokenizer=tokenizer), settings, explain)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # stops the page like Ctrl+C
    with tempfile.TemporaryDirectory(prefix="multihead-demo-") as uploads:
        # a private folder for uploads, deleted with the page; gradio reads its path on import
        os.environ["GRADIO_TEMP_DIR"] = uploads
        from ..demo.demo_page import build_page, launch_page

        page = build_page(demo)
        try:
            launch_page(page, demo, host, port)
        except OSError as error:
            address = f"{host}, port {port or '7860 to 7959'}"
            raise ValueError(f"the page cannot listen at {address}: give another --port or --host") from error
        print(f"The page is {page.local_url} (Ctrl+C ends it)", flush=True)
        page.block_thread()
