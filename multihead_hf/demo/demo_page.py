"""Layout of the demo page, and its event handlers.

This file is copied into Spaces: gradio and the standard library only, and no import but from its siblings.
"""

import functools
import html
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import gradio as gr
from gradio.events import Dependency
from gradio.exceptions import Error

from .demo import METHODS, PREDICTED, TOP_K, VIEWS, Demo, Reading
from .demo_html import STYLE, note_html
from .demo_table import SUFFIXES
from .demo_uploads import UploadLimit

logger = logging.getLogger(__name__)

_Answer = TypeVar("_Answer")

WAITING = 20
"""Maximum number of requests that wait for the model; it answers them one by one."""
KEPT = 3_600
"""Seconds after which uploaded files and results are deleted (once in so many seconds, too)."""
MOST_FILES = 100
"""Maximum number of uploaded files of the largest size on the disk."""
# one at a time: models and tokenizers are not thread-safe
_MODEL: dict[str, Any] = {"concurrency_limit": 1, "concurrency_id": "model", "api_visibility": "private"}
_QUICK: dict[str, Any] = {"show_progress": "hidden", "trigger_mode": "always_last", "api_visibility": "private"}


def said_in_the_page(function: Callable[..., _Answer]) -> Callable[..., _Answer]:
    """Return a handler that shows errors on the page.

    Errors in users' input are shown with their message, other errors without details.
    """

    @functools.wraps(function)
    def handler(*args: Any) -> _Answer:
        try:
            return function(*args)
        except ValueError as error:
            sentence = " ".join(str(error).split())
        except Exception:
            logger.exception("the demo page could not answer")
            sentence = "the request failed; the log of the program has the reason"
        # gradio shows it as HTML
        raise Error(html.escape(sentence[:1].upper() + sentence[1:]), print_exception=False)

    return handler


def _uploads_only(file: gr.File) -> gr.File:
    """Return the component, which then refuses a URL in place of an upload: gradio would fetch it."""
    as_it_was = file.async_move_resource_to_block_cache

    async def moved(url_or_file_path: str | Path | None) -> str | None:
        if "://" in str(url_or_file_path):
            raise Error("Upload a file", print_exception=False)
        return await as_it_was(url_or_file_path)

    # not a subclass, because gradio writes a stub file beside a module with one
    file.async_move_resource_to_block_cache = moved  # type: ignore[method-assign]
    return file


def build_page(demo: Demo) -> gr.Blocks:
    """Return the page, to be started with `launch_page`."""
    with gr.Blocks(analytics_enabled=False, title=demo.settings.title, delete_cache=(KEPT, KEPT)) as page:
        gr.HTML(f"<h1>{html.escape(demo.settings.title)}</h1>")
        with gr.Tab("One text"):
            _text_tab(demo)
        with gr.Tab("A file"):
            _file_tab(demo)
    return page


def launch_page(page: gr.Blocks, demo: Demo, host: str | None = None, port: int | None = None) -> None:
    """Serve a page without blocking. The page neither requests anything from other hosts nor sends anything to them.

    Args:
        page: result of `build_page`.
        demo: the backend that it was built with.
        host: the address to listen on; `None` means `GRADIO_SERVER_NAME` of the environment, which Spaces set, else
            only the local machine.
        port: the port; `None` means the first free one from 7860.

    Raises:
        OSError: If the port is taken.
    """
    max_file = int(demo.settings.max_file_mb * 2**20)
    limits = {"max_file": max_file, "max_kept": MOST_FILES * max_file, "seconds": 2 * KEPT}
    page.queue(max_size=WAITING, default_concurrency_limit=1)
    page.launch(
        server_name=host,
        server_port=port,
        share=False,
        prevent_thread_lock=True,
        quiet=True,
        show_error=False,
        max_file_size=max_file,
        app_kwargs={"middleware": [(UploadLimit, (), limits)]},
        state_session_capacity=200,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        mcp_server=False,
        pwa=False,
        theme=_theme(),
        css=STYLE,
    )


def _theme() -> gr.themes.Base:
    """Return a theme with system fonts, and buttons with enough contrast."""
    theme = gr.themes.Default(
        primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]
    )
    return theme.set(button_primary_background_fill="*primary_600", button_primary_background_fill_hover="*primary_700")


def _text_tab(demo: Demo) -> None:
    reading = gr.State(None)
    boxes = [
        gr.Textbox(
            label="Text" if len(demo.columns) == 1 else column,
            lines=1,  # Enter submits
            max_lines=12,
            max_length=demo.settings.max_chars,
            autofocus=index == 0,
            elem_id=f"mh-text-{index}",
        )
        for index, column in enumerate(demo.columns)
    ]
    submit = gr.Button("Predict", variant="primary", elem_id="mh-submit")
    texts = [[text] for text in demo.settings.examples]
    examples = gr.Examples(texts, boxes, cache_examples=False, api_visibility="private") if texts else None
    view, top_k, saved, threshold, heads = options = _options(demo)
    shown = gr.HTML(demo.results(None), elem_id="mh-results")

    @said_in_the_page
    def read(*values: Any) -> tuple[Reading, str]:
        fresh = demo.read(*values[: len(boxes)])
        return fresh, demo.results(fresh, *values[len(boxes) :])

    results = said_in_the_page(demo.results)
    event: dict[str, Any] = {"fn": read, "inputs": [*boxes, *options], "outputs": [reading, shown], **_MODEL}
    answers = [gr.on([submit.click, *(box.submit for box in boxes)], **event)]
    if examples is not None:
        answers.append(examples.load_input_event.then(**event))
    gr.on([view.input, top_k.input, saved.input, heads.input], results, [reading, *options], shown, **_QUICK)
    view.input(lambda name: gr.update(visible=name == TOP_K), view, top_k, **_QUICK)
    # moving the slider selects its threshold
    threshold.input(
        lambda current, *options: (False, results(current, *options[:2], False, *options[3:])),
        [reading, *options],
        [saved, shown],
        **_QUICK,
    )
    if demo.explain is not None:
        _words(demo, reading, answers)


def _options(demo: Demo) -> tuple[gr.Radio, gr.Slider, gr.Checkbox, gr.Slider, gr.Dropdown]:
    """Return the inputs for view, k, saved or other threshold, and the heads to show."""
    max_k = max(2, *(head.num_labels for head in demo.heads.values()))
    with gr.Row():
        view = gr.Radio(list(VIEWS), value=PREDICTED, label="Show", min_width=280, elem_id="mh-view")
        top_k = gr.Slider(
            1,
            max_k,
            value=min(5, max_k),
            step=1,
            label="Number of labels",
            visible=False,
            min_width=280,
            elem_id="mh-top-k",
        )
        heads = gr.Dropdown(
            list(demo.heads),
            multiselect=True,
            label="Heads (leave empty for all)",
            visible=len(demo.heads) > 1,
            min_width=280,
            elem_id="mh-heads",
        )
    with gr.Row(visible=demo.multi_label):
        with gr.Column(min_width=280):
            saved = gr.Checkbox(True, label="Use the saved thresholds", elem_id="mh-saved")
        with gr.Column(min_width=280):
            threshold = gr.Slider(
                0.01, 0.99, value=0.5, step=0.01, label="Threshold to use instead", elem_id="mh-threshold"
            )
    return view, top_k, saved, threshold, heads


def _words(demo: Demo, reading: gr.State, answers: list[Dependency]) -> None:
    """Add the accordion with the words that support a label, which changes with the text and the head."""
    first = next(iter(demo.heads))
    with gr.Accordion("Which words contribute to a label?", open=False, elem_id="mh-words"):
        with gr.Row():
            head = gr.Dropdown(list(demo.heads), value=first, label="Head", elem_id="mh-words-head")
            label = gr.Dropdown(
                demo.heads[first].labels, value=demo.best_label(None, first), label="Label", elem_id="mh-words-label"
            )
            method = gr.Radio(
                [(METHODS[name], name) for name in demo.methods],
                value=demo.methods[0],
                label="Method",
                visible=len(demo.methods) > 1,
                elem_id="mh-words-method",
            )
        show = gr.Button("Show the words", elem_id="mh-words-show")
        shown = gr.HTML(elem_id="mh-words-shown")

    def follow(current: Reading | None, name: str) -> tuple[Any, str]:
        return gr.update(choices=demo.heads[name].labels, value=demo.best_label(current, name)), ""

    for answer in answers:
        answer.success(follow, [reading, head], [label, shown], **_QUICK)
    head.input(follow, [reading, head], [label, shown], **_QUICK)
    show.click(said_in_the_page(demo.words), [reading, head, label, method], shown, **_MODEL)


def _file_tab(demo: Demo) -> None:
    gr.HTML(note_html(demo.limits()))
    source = _uploads_only(gr.File(label="Table", file_types=list(SUFFIXES), elem_id="mh-file"))
    start = gr.Button("Predict the rows", variant="primary", elem_id="mh-file-submit")
    status = gr.HTML(elem_id="mh-file-said")
    download = gr.DownloadButton("Download the predictions", visible=False, elem_id="mh-download")

    @said_in_the_page
    def predict(path: str | None, progress: gr.Progress = gr.Progress()) -> tuple[str, Any]:  # noqa: B008 (for gradio)
        # in gradio's folder, whose files it deletes for this page
        result, sentence = demo.predict_file(path, download.GRADIO_CACHE, progress)
        return sentence, gr.update(value=result, visible=True)

    start.click(predict, source, [status, download], **_MODEL)
    source.change(lambda: ("", gr.update(value=None, visible=False)), None, [status, download], **_QUICK)
