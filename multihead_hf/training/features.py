"""Features of a frozen encoder: every text is encoded once, and epochs then read a memory-mapped file."""

import hashlib
import json
import os
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
import torch.utils.data
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from datasets import Dataset
from huggingface_hub.utils import WeakFileLock
from torch import Tensor, nn
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from ..model.digest import module_digest, plain_config
from ..model.modeling_multihead import MultiHeadModel
from .arguments import MultiHeadTrainingArguments
from .feature_file import CHECKSUM, checksum_of, file_header, find_problem, metadata_of, open_features

logger = logging.get_logger(__name__)

# what `MultiHeadModel.encode` takes
TOKENS = ("input_ids", "attention_mask", "token_type_ids")
# of features as they are kept
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_FORMAT = "2"


class FeatureRows(torch.utils.data.Dataset):
    """Prepared rows with `features`, (hidden,) or (windows, hidden), in the place of their tokens.

    Args:
        rows: the prepared rows; their labels and weights are read from there.
        texts: which text or texts of the file each row has.
        path: the file.
    """

    def __init__(self, rows: Dataset, texts: "Texts", path: Path) -> None:
        columns = [column for column in ("labels", "sample_weight") if column in rows.column_names]
        self._rows = rows.with_format(None).select_columns(columns) if columns else None
        self._texts = texts
        self._path = path
        self._features = open_features(path)

    def __len__(self) -> int:
        return self._texts.rows

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        rows = self._rows.__getitems__(list(indices)) if self._rows is not None else [{} for _ in indices]
        which = [self._texts.of_row(range(len(self))[index]) for index in indices]
        features = self._features[torch.from_numpy(np.concatenate(which))]
        each = features.split([len(texts) for texts in which])
        if not self._texts.windows:
            each = tuple(features)
        return [{**row, "features": own} for row, own in zip(rows, each, strict=True)]

    def __getstate__(self) -> dict[str, Any]:
        # another process opens the file itself
        return {**self.__dict__, "_features": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._features = open_features(self._path)


class Texts(NamedTuple):
    """The different texts (or windows) among prepared rows, in an order that only depends on what they are.

    Args:
        digests: 16 bytes for each different text, in ascending order.
        first: (different texts,) where each occurs first, counting the texts of all rows.
        length: (different texts,) tokens.
        which: (texts of all rows,) the different text that each is.
        starts: (rows + 1,) where each row's texts start among those of all rows.
        windows: whether rows hold lists of windows.
    """

    digests: npt.NDArray[Any]
    first: npt.NDArray[np.int64]
    length: npt.NDArray[np.int64]
    which: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    windows: bool

    @property
    def rows(self) -> int:
        return len(self.starts) - 1

    @property
    def digest(self) -> str:
        return hashlib.blake2b(self.digests.tobytes(), digest_size=16).hexdigest()

    def of_row(self, row: int) -> npt.NDArray[np.int64]:
        return self.which[self.starts[row] : self.starts[row + 1]]

    def tokens(self, rows: Dataset, texts: Sequence[int]) -> list[dict[str, list[int]]]:
        """The tokens of some of the different texts; `rows` holds columns of tokens only."""
        places = self.first[list(texts)]
        of_row = np.searchsorted(self.starts, places, side="right") - 1
        found = rows.__getitems__(of_row.tolist())
        if not self.windows:
            return found
        windows = (places - self.starts[of_row]).tolist()
        return [{name: row[name][window] for name in row} for row, window in zip(found, windows, strict=True)]


def different_texts(rows: Dataset, columns: list[str]) -> Texts:
    """Find the different texts of prepared rows by their columns of tokens."""
    digests, lengths, counts, windows = bytearray(), [], [], False
    for batch in rows.select_columns(columns).with_format("arrow").iter(batch_size=1000):
        texts = []  # of each column the values of all texts, and where each text starts and ends
        for name in columns:
            column = batch[name].combine_chunks()
            windows = pa.types.is_nested(column.type.value_type)
            in_row = pc.list_value_length(column).to_numpy() if windows else np.ones(len(column), dtype=np.int64)
            column = column.flatten() if windows else column
            ends = np.cumsum(pc.list_value_length(column).to_numpy())
            texts.append((column.flatten().to_numpy(zero_copy_only=False).astype(np.int64), [0, *ends.tolist()]))
        for text in range(len(ends)):
            digest = hashlib.blake2b(digest_size=16)
            for values, places in texts:
                digest.update(values[places[text] : places[text + 1]].tobytes())
            digests += digest.digest()
        lengths.append(np.diff(ends, prepend=0))
        counts.append(in_row)
    starts = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
    halves = np.frombuffer(bytes(digests), dtype=np.dtype([("high", ">u8"), ("low", ">u8")]))
    different, first, which = np.unique(halves, return_index=True, return_inverse=True)
    return Texts(different, first, np.concatenate(lengths)[first], which.ravel(), starts, windows)


class FeatureCache:
    """Features of the data sets of a run, each encoded once for as long as the encoder stays as it is.

    A file is named after the texts' tokens (and so after tokenizer and text settings) and after what encoded them: the
    encoder's class, configuration, modules and weights, the pooling, autocast and `dtype`.

    Args:
        folder: where the files are.
        tokenizer: pads.
        dtype: `"float32"` or `"bfloat16"`.
        batch_size: texts of 512 tokens that are encoded at a time; of shorter ones more, up to eight times as many, of
            longer ones fewer.
        precision: of the encoder's autocast, `"no"`, `"bf16"` or `"fp16"`.
        replace: whether a file of the same texts by another encoder is deleted.
        quiet: without a progress bar.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        tokenizer: PreTrainedTokenizerBase,
        dtype: str = "float32",
        batch_size: int = 8,
        precision: str = "no",
        replace: bool = True,
        quiet: bool = False,
    ) -> None:
        self._folder = Path(folder)
        self._tokenizer = tokenizer
        self._dtype = DTYPES[dtype]
        self._batch_size = batch_size
        self._precision = precision
        self._replace = replace
        self._quiet = quiet
        self._known: weakref.WeakKeyDictionary[Dataset, tuple[Any, FeatureRows]] = weakref.WeakKeyDictionary()
        self._digest: tuple[Any, str] = (None, "")

    def rows(self, model: MultiHeadModel, rows: Dataset, encode: Callable[[dict[str, Tensor]], Tensor]) -> FeatureRows:
        """Prepared rows with features.

        Args:
            model: its encoder is frozen.
            rows: prepared rows.
            encode: tokens (batch, length) → features (batch, hidden).

        Raises:
            ValueError: the encoder is not frozen, or reads more than tokens; a folder is where the file would be.
            OSError: the file cannot be written; nothing of it is left.
        """
        check_frozen(model)
        state = _state(model.encoder), model.config.pooling
        if rows in self._known and self._known[rows][0] == state:
            return self._known[rows][1]
        read = [name for name in rows.column_names if name in self._tokenizer.model_input_names]
        columns = [name for name in read if name in TOKENS]
        if columns != read:
            raise ValueError(f"cache_features knows the encoder's inputs {TOKENS}, and the rows have {read}")
        texts = different_texts(rows, columns)
        made_by = self._made_by(model, state)
        key = hashlib.blake2b(json.dumps(made_by, sort_keys=True).encode(), digest_size=8).hexdigest()
        path = self._folder / f"{texts.digest}-{key}.safetensors"
        shape = (len(texts.first), model.config.hidden_size)
        if path.is_dir():
            raise ValueError(f"feature cache {path} is a folder: remove it, or give another feature_cache_dir")
        if find_problem(path, made_by, shape) is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
            # one of several processes encodes, and the others wait for it
            with WeakFileLock(f"{path}.lock"):
                if find_problem(path, made_by, shape) is not None:
                    others = [other for other in self._folder.glob(f"{texts.digest}-*.safetensors") if other != path]
                    self._say_why(path if path.exists() else next(iter(others), None), made_by, shape)
                    self._make(path, texts, rows.with_format(None).select_columns(columns), made_by, model, encode)
                    for other in others if self._replace else []:
                        other.unlink(missing_ok=True)
        difference = metadata_of(path).get("difference")
        if difference is not None:
            logger.warning(f"features are kept in {made_by['dtype']}, and differ from the encoder's by {difference}")
        found = FeatureRows(rows, texts, path)
        self._known[rows] = (state, found)
        return found

    def _say_why(self, old: Path | None, made_by: Mapping[str, str], shape: tuple[int, int]) -> None:
        if old is not None:
            logger.warning(f"feature cache {old}: {find_problem(old, made_by, shape)}; its texts are encoded again")

    def _made_by(self, model: MultiHeadModel, state: Any) -> dict[str, str]:
        """What decides about the features of given tokens; `state` changes when the encoder does."""
        if self._digest[0] != state:
            self._digest = (state, _digest(model.encoder))
        return {
            "format": _FORMAT,
            "encoder": self._digest[1],
            "pooling": model.config.pooling,
            "autocast": self._precision,
            "dtype": str(self._dtype).removeprefix("torch."),
        }

    def _make(
        self,
        path: Path,
        texts: Texts,
        rows: Dataset,
        made_by: Mapping[str, str],
        model: MultiHeadModel,
        encode: Callable[[dict[str, Tensor]], Tensor],
    ) -> None:
        shape = (len(texts.first), model.config.hidden_size)
        logger.info(f"encoding {shape[0]:,} different texts of {texts.rows:,} rows into {path}")
        part = path.with_name(f"{path.name}.part")
        # room for the difference and the checksum, which are known at the end
        header = file_header(shape, self._dtype, made_by, room=300)
        width = shape[1] * self._dtype.itemsize
        difference = _Difference()
        was_training = model.training
        model.eval()
        try:
            with part.open("wb") as file, tqdm(total=shape[0], desc="Encoding", disable=self._quiet) as progress:
                file.write(header)
                for batch in _batches_by_length(texts.length, self._batch_size):
                    exact = self._encoded(texts.tokens(rows, batch), encode).float().cpu()  # (batch, hidden)
                    kept = exact.to(self._dtype)
                    difference.add(exact, kept)
                    for text, row in zip(batch, kept.view(torch.uint8).numpy(), strict=True):
                        # not through a memory map, with which a full disk kills the process
                        file.seek(len(header) + text * width)
                        file.write(row.tobytes())
                    progress.update(len(batch))
                file.flush()
                metadata = {**made_by, CHECKSUM: checksum_of(part)}
                if self._dtype != torch.float32:
                    metadata["difference"] = str(difference)
                file.seek(0)
                file.write(file_header(shape, self._dtype, metadata, len(header)))
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        finally:
            model.train(was_training)
            part.unlink(missing_ok=True)

    def _encoded(self, texts: list[dict[str, list[int]]], encode: Callable[[dict[str, Tensor]], Tensor]) -> Tensor:
        """(texts, hidden); half of the texts at a time where memory does not suffice for all."""
        try:
            return encode(dict(self._tokenizer.pad(texts, return_tensors="pt")))
        except (RuntimeError, MemoryError) as error:
            if len(texts) == 1 or not should_reduce_batch_size(error):
                raise
        clear_device_cache(garbage_collection=True)
        middle = len(texts) // 2
        return torch.cat([self._encoded(part, encode) for part in (texts[:middle], texts[middle:])])


def cache_for(args: MultiHeadTrainingArguments, tokenizer: PreTrainedTokenizerBase, precision: str) -> FeatureCache:
    """Return the cache of a run; `precision` is that of the encoder's autocast."""
    return FeatureCache(
        args.feature_cache_dir or os.path.join(str(args.output_dir), "_features"),
        tokenizer,
        args.feature_dtype,
        batch_size=args.per_device_eval_batch_size,
        precision=precision,
        replace=args.feature_cache_dir is None,
        quiet=args.disable_tqdm,
    )


class _Difference:
    """How much kept features differ from exact ones."""

    def __init__(self) -> None:
        self._highest = self._squares = self._of_differences = 0.0

    def add(self, exact: Tensor, kept: Tensor) -> None:
        differences = (kept.double() - exact.double()).abs()
        self._highest = max(self._highest, float(differences.max()))
        self._of_differences += float(differences.square().sum())
        self._squares += float(exact.double().square().sum())

    def __str__(self) -> str:
        relative = (self._of_differences / max(self._squares, 1e-300)) ** 0.5
        return f"{self._highest:.2g} at most, {relative:.2g} relative to their size (root mean square)"


def check_frozen(model: MultiHeadModel) -> None:
    """
    Raises:
        ValueError: the encoder is trained, so that its features change, or has PEFT's adapters, which can be switched.
    """
    if any(base.__name__ == "BaseTunerLayer" for module in model.encoder.modules() for base in type(module).__mro__):
        raise ValueError("cache_features knows no adapters (PEFT): merge them, merge_and_unload(), or leave it out")
    trained = [name for name, parameter in model.encoder.named_parameters() if parameter.requires_grad]
    if trained:
        raise ValueError(
            f"cache_features needs a frozen encoder, and {len(trained)} of its parameters are trained (the first is "
            f"{trained[0]}): freeze_encoder=True, or leave cache_features out"
        )


def _batches_by_length(lengths: npt.NDArray[np.int64], batch_size: int) -> list[list[int]]:
    """Texts of similar lengths, the longest first; `batch_size` of 512 tokens, up to eight times as many short ones."""
    batches: list[list[int]] = []
    for text in np.argsort(-lengths, kind="stable").tolist():
        last = batches[-1] if batches else []
        if not last or (len(last) + 1) * lengths[last[0]] > batch_size * 512 or len(last) == batch_size * 8:
            batches.append([])
        batches[-1].append(text)
    return batches


def _state(encoder: nn.Module) -> int:
    """Changes when the encoder changes; cheap, unlike `_digest`. The sums are for writes that torch does not note
    (`.data`, numpy)."""
    tensors = [tensor.detach() for tensor in (*encoder.parameters(), *encoder.buffers())]
    sums = [tensor.float().sum() if tensor.is_floating_point() else tensor.sum() for tensor in tensors]
    noted = [(tensor.data_ptr(), tensor._version, tensor.dtype) for tensor in tensors]
    return hash((tuple(noted), tuple(torch.stack([own.double().cpu() for own in sums]).tolist()), str(encoder)))


def _digest(encoder: PreTrainedModel) -> str:
    """Of the encoder's class, configuration, modules, weights and buffers."""
    return module_digest(encoder, [type(encoder).__name__, plain_config(encoder.config), str(encoder)])
