"""Features of a frozen encoder as a dataset column: encoded once, read from memory-mapped Arrow files."""

import contextlib
import functools
import hashlib
import itertools
import os
import shutil
import weakref
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from datasets import Dataset, Features, List, Value
from huggingface_hub.utils import WeakFileLock
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from ..model.digest import module_digest, plain_config
from ..model.modeling_multihead import MultiHeadModel
from ..model.modes_multihead import evaluating
from .arguments import MultiHeadTrainingArguments

logger = logging.get_logger(__name__)

# inputs of `MultiHeadModel.encode`
TOKENS = ("input_ids", "attention_mask", "token_type_ids")
# data types of stored features; Arrow has no bfloat16, so its bits are stored as int16
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
_STORED = {torch.float32: "float32", torch.bfloat16: "int16"}
_FEATURES, _CHECKSUM = "features", "checksum"
# settings that determine the features of tokens, in the order of a file's name, after the digest of its texts
_MADE_BY = ("encoder", "pooling", "autocast", "dtype")


class Texts(NamedTuple):
    """The distinct texts (or windows) among prepared rows, longest first; the order only depends on the texts.

    Args:
        digest: Digest of the distinct texts.
        first: (distinct texts,), index of each one's first occurrence among the texts of all rows.
        length: (distinct texts,), numbers of tokens.
        which: (texts of all rows,), index of the distinct text.
        starts: (rows + 1,), where each row's texts start among the texts of all rows.
        windows: Whether rows hold lists of windows.
    """

    digest: str
    first: npt.NDArray[np.int64]
    length: npt.NDArray[np.int64]
    which: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]
    windows: bool

    def tokens(self, rows: Dataset, texts: Sequence[int]) -> list[dict[str, list[int]]]:
        """Return the tokens of some of the distinct texts; `rows` has columns of tokens only."""
        indices = self.first[list(texts)]
        of_row = np.searchsorted(self.starts, indices, side="right") - 1
        tokens = rows.__getitems__(of_row.tolist())
        if not self.windows:
            return tokens
        windows = (indices - self.starts[of_row]).tolist()
        return [{name: row[name][window] for name in row} for row, window in zip(tokens, windows, strict=True)]

    def column(self) -> pa.Array:
        """Each row's text, or list of windows."""
        indices = pa.array(self.which)
        return pa.ListArray.from_arrays(pa.array(self.starts, pa.int32()), indices) if self.windows else indices


def different_texts(rows: Dataset, columns: list[str]) -> Texts:
    """Find the distinct texts of prepared rows by their columns of tokens."""
    digests, lengths, counts, windows = bytearray(), [], [], False
    for batch in rows.select_columns(columns).with_format("arrow").iter(batch_size=1000):
        texts = []  # for each column, the values of all texts, and where each text starts and ends
        for name in columns:
            column = batch[name].combine_chunks()
            windows = pa.types.is_nested(column.type.value_type)
            in_row = pc.list_value_length(column).to_numpy() if windows else np.ones(len(column), dtype=np.int64)
            column = column.flatten() if windows else column
            ends = np.cumsum(pc.list_value_length(column).to_numpy())
            texts.append((column.flatten().to_numpy(zero_copy_only=False).astype(np.int64), [0, *ends.tolist()]))
        for text in range(len(ends)):
            digest = hashlib.blake2b(digest_size=16)
            for values, offsets in texts:
                digest.update(values[offsets[text] : offsets[text + 1]].tobytes())
            digests += digest.digest()
        lengths.append(np.diff(ends, prepend=0))
        counts.append(in_row)
    starts = np.concatenate([[0], np.cumsum(np.concatenate(counts))])
    halves = np.frombuffer(bytes(digests), dtype=np.dtype([("high", ">u8"), ("low", ">u8")]))
    different, first, inverse = np.unique(halves, return_index=True, return_inverse=True)
    length = np.concatenate(lengths)[first]
    order = np.argsort(-length, kind="stable")
    digest_of_all = hashlib.blake2b(different.tobytes(), digest_size=16).hexdigest()
    return Texts(digest_of_all, first[order], length[order], np.argsort(order)[inverse.ravel()], starts, windows)


class FeatureCache:
    """Features of the datasets of a run; each text is encoded once, until the encoder changes.

    An Arrow file holds the features of distinct texts. Its name depends on the texts' tokens (and so on tokenizer and
    text settings), on the encoder's class, configuration, modules and weights, and on the pooling, autocast and
    `dtype`.

    Args:
        folder: Folder of the files.
        tokenizer: Tokenizer that pads the batches.
        dtype: `"float32"` or `"bfloat16"`.
        batch_size: Number of texts of 512 tokens that are encoded at a time; batches of shorter texts are larger (up
            to eight times), and those of longer texts are smaller.
        precision: Precision of the encoder's autocast, `"no"`, `"bf16"` or `"fp16"`.
        replace: Whether a file with the same texts from another encoder is deleted.
        quiet: Whether to hide the progress bar.
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
        self._known: weakref.WeakKeyDictionary[Dataset, tuple[Any, Dataset]] = weakref.WeakKeyDictionary()
        self._digest: tuple[Any, str] = (None, "")

    def rows(self, model: MultiHeadModel, rows: Dataset, encode: Callable[[dict[str, Tensor]], Tensor]) -> Dataset:
        """Return prepared rows with a column `features`, (hidden,) or (windows, hidden), instead of tokens.

        Args:
            model: A model with a frozen encoder.
            rows: Prepared rows with labels.
            encode: Function from tokens (batch, length) to features (batch, hidden).

        Raises:
            ValueError: The encoder is not frozen, it reads more than tokens, or a folder has the name of the file.
            OSError: The file cannot be written; no part of it is left.
        """
        check_frozen(model)
        state = _state(model.encoder), model.config.pooling
        if rows in self._known and self._known[rows][0] == state:
            return self._known[rows][1]
        read = [name for name in rows.column_names if name in self._tokenizer.model_input_names]
        columns = [name for name in read if name in TOKENS]
        if columns != read:
            raise ValueError(f"cache_features supports the encoder inputs {TOKENS}, but the rows have {read}")
        texts = different_texts(rows, columns)
        plain = rows.with_format(None)
        vectors = self._vectors(texts, plain.select_columns(columns), model, state, encode)
        others = [name for name in ("labels", "sample_weight", "length") if name in rows.column_names]
        result = plain.select_columns(others).add_column(_FEATURES, texts.column())
        if "length" not in others:  # samplers that group by length read it
            result = result.add_column("length", np.diff(texts.starts) if texts.windows else texts.length[texts.which])
        result = result.with_transform(functools.partial(_put_features, vectors.with_format("arrow")))
        self._known[rows] = (state, result)
        return result

    def _vectors(
        self,
        texts: Texts,
        tokens: Dataset,
        model: MultiHeadModel,
        state: object,
        encode: Callable[[dict[str, Tensor]], Tensor],
    ) -> Dataset:
        """Return the features of the distinct texts, from a file that is made if no usable one exists."""
        made_by = self._made_by(model, state)
        path = self._folder / f"{texts.digest}-{'-'.join(made_by)}.arrow"
        columns = Features(
            {
                _FEATURES: List(Value(_STORED[self._dtype]), length=model.config.hidden_size),
                _CHECKSUM: Value("uint32"),
            }
        )
        if path.is_dir():
            raise ValueError(f"feature cache {path} is a folder: remove it, or give another feature_cache_dir")
        cache = _open(path, columns, len(texts.first)) if path.exists() else None
        if isinstance(cache, Dataset):
            return cache
        self._folder.mkdir(parents=True, exist_ok=True)
        # one process encodes while the others wait
        with WeakFileLock(f"{path}.lock"):
            cache = _open(path, columns, len(texts.first)) if path.exists() else None
            if isinstance(cache, Dataset):
                return cache
            others = [other for other in self._folder.glob(f"{texts.digest}-*.arrow") if other != path]
            if cache is not None:
                logger.warning(f"feature cache {path}: {cache}; its texts are encoded again")
            elif others:
                before = zip(_MADE_BY, others[0].stem.split("-")[1:], made_by, strict=False)
                changed = " and ".join(name for name, old, new in before if old != new)
                logger.warning(
                    f"feature cache {others[0]}: it was made with another {changed}; its texts are encoded again"
                )
            self._make(path, columns, texts, tokens, model, encode)
            for other in others if self._replace else []:
                other.unlink(missing_ok=True)
        return Dataset.from_file(str(path))

    def _made_by(self, model: MultiHeadModel, state: object) -> list[str]:
        """Return the settings that features depend on; `state` changes when the encoder does."""
        if self._digest[0] != state:
            self._digest = (state, _digest(model.encoder))
        return [self._digest[1], model.config.pooling, self._precision, str(self._dtype).removeprefix("torch.")]

    def _make(
        self,
        path: Path,
        columns: Features,
        texts: Texts,
        tokens: Dataset,
        model: MultiHeadModel,
        encode: Callable[[dict[str, Tensor]], Tensor],
    ) -> None:
        logger.info(f"encoding {len(texts.first):,} different texts of {len(tokens):,} rows into {path}")
        difference = _Difference()

        def encode_some(batch: Mapping[str, list[int]]) -> pa.Table:
            exact = torch.cat(
                [
                    self._encoded(texts.tokens(tokens, batch_texts), encode).float().cpu()
                    for batch_texts in _split(batch["text"], texts.length, self._batch_size)
                ]
            )  # (batch, hidden)
            rounded = exact.to(self._dtype)
            difference.add(exact, rounded)
            stored = (rounded if rounded.dtype == torch.float32 else rounded.view(torch.int16)).numpy()
            lists = pa.FixedSizeListArray.from_arrays(pa.array(stored.ravel()), stored.shape[1])
            return pa.table({_FEATURES: lists, _CHECKSUM: _checksums(stored)}, columns.arrow_schema)

        part = path.with_name(f"{path.name}.part")  # a killed process may have left files in it
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        try:
            with evaluating(model), _progress_bars(not self._quiet):
                Dataset.from_dict({"text": range(len(texts.first))}).map(
                    encode_some,
                    batched=True,
                    batch_size=self._batch_size * 8,
                    remove_columns="text",
                    features=columns,
                    cache_file_name=str(part / path.name),
                    new_fingerprint=hashlib.blake2b(path.name.encode(), digest_size=16).hexdigest(),
                    desc="Encoding",
                )
            os.replace(part / path.name, path)
        finally:
            shutil.rmtree(part, ignore_errors=True)
        if self._dtype != torch.float32:
            kept_in = str(self._dtype).removeprefix("torch.")
            logger.warning(f"features are kept in {kept_in}, and differ from the encoder's by {difference}")

    def _encoded(self, texts: list[dict[str, list[int]]], encode: Callable[[dict[str, Tensor]], Tensor]) -> Tensor:
        """Return features (texts, hidden); out of memory, a batch is halved."""
        try:
            return encode(dict(self._tokenizer.pad(texts, return_tensors="pt")))
        except (RuntimeError, MemoryError) as error:
            if len(texts) == 1 or not should_reduce_batch_size(error):
                raise
        clear_device_cache(garbage_collection=True)
        middle = len(texts) // 2
        return torch.cat([self._encoded(part, encode) for part in (texts[:middle], texts[middle:])])


def _put_features(vectors: Dataset, batch: Mapping[str, list[Any]]) -> dict[str, Any]:
    """Transform of rows on access: replaces the indices of their texts by the features."""
    if _FEATURES not in batch:
        return dict(batch)
    texts = batch[_FEATURES]
    has_windows = isinstance(texts[0], list)
    stored = _array(vectors[list(itertools.chain.from_iterable(texts)) if has_windows else texts])
    features = torch.from_numpy(stored.copy())  # (texts or windows, hidden)
    features = features if features.dtype == torch.float32 else features.view(torch.bfloat16)
    return {**batch, _FEATURES: list(features.split([len(windows) for windows in texts]) if has_windows else features)}


def _array(table: pa.Table) -> npt.NDArray[Any]:
    """Return the stored array (rows, hidden)."""
    values = table[_FEATURES].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return values.reshape(len(table), -1)


def _checksums(stored: npt.NDArray[Any]) -> pa.Array:
    return pa.array([zlib.crc32(row) for row in np.ascontiguousarray(stored)], pa.uint32())


def _open(path: Path, columns: Features, texts: int) -> Dataset | str:
    """Return the features in a file, memory-mapped, or the reason why it cannot be used."""
    try:
        dataset = Dataset.from_file(str(path))
    except (pa.ArrowException, OSError, ValueError) as error:
        return f"it cannot be read ({error})"
    if dataset.features != columns or len(dataset) != texts:
        return f"it is damaged (it has {len(dataset):,} texts of {dataset.features}, not {texts:,} of {columns})"
    for batch in dataset.with_format("arrow").iter(10_000):
        if not _checksums(_array(batch)).equals(batch[_CHECKSUM].combine_chunks()):
            return "it is damaged (the checksum does not match)"
    return dataset


def _split(texts: list[int], lengths: npt.NDArray[np.int64], batch_size: int) -> Iterator[list[int]]:
    """Split texts, sorted from the longest, into batches of at most `batch_size` · 512 tokens."""
    size = max(batch_size * 512 // max(int(lengths[texts[0]]), 1), 1)
    return (texts[start : start + size] for start in range(0, len(texts), size))


@contextlib.contextmanager
def _progress_bars(shown: bool) -> Iterator[None]:
    """Context manager: `datasets` shows progress bars only if `shown`."""
    if shown or datasets.are_progress_bars_disabled():
        yield
        return
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        datasets.enable_progress_bars()


def cache_for(args: MultiHeadTrainingArguments, tokenizer: PreTrainedTokenizerBase, precision: str) -> FeatureCache:
    """Return the cache of a run; `precision` is the precision of the encoder's autocast."""
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
    """Difference of stored features from exact ones."""

    def __init__(self) -> None:
        self._highest = self._squares = self._of_differences = 0.0

    def add(self, exact: Tensor, rounded: Tensor) -> None:
        differences = (rounded.double() - exact.double()).abs()
        self._highest = max(self._highest, float(differences.max()))
        self._of_differences += float(differences.square().sum())
        self._squares += float(exact.double().square().sum())

    def __str__(self) -> str:
        relative = (self._of_differences / max(self._squares, 1e-300)) ** 0.5
        return f"{self._highest:.2g} at most, {relative:.2g} relative to their size (root mean square)"


def check_frozen(model: MultiHeadModel) -> None:
    """Check that the features of an encoder stay the same during training.

    Raises:
        ValueError: The encoder is trained, or has adapters (PEFT), which can be switched.
    """
    if any(base.__name__ == "BaseTunerLayer" for module in model.encoder.modules() for base in type(module).__mro__):
        raise ValueError(
            "cache_features does not support adapters (PEFT): merge them, merge_and_unload(), or leave it out"
        )
    trained = [name for name, parameter in model.encoder.named_parameters() if parameter.requires_grad]
    if trained:
        raise ValueError(
            f"cache_features needs a frozen encoder, but {len(trained)} of its parameters are trained (the first is "
            f"{trained[0]}): freeze_encoder=True, or leave cache_features out"
        )


def _state(encoder: nn.Module) -> int:
    """Return a number that changes when the encoder changes, which is cheaper than `_digest`.

    Sums detect changes that torch does not record (by `.data` or numpy).
    """
    tensors = [tensor.detach() for tensor in (*encoder.parameters(), *encoder.buffers())]
    sums = [tensor.float().sum() if tensor.is_floating_point() else tensor.sum() for tensor in tensors]
    versions = [(tensor.data_ptr(), tensor._version, tensor.dtype) for tensor in tensors]
    return hash((tuple(versions), tuple(torch.stack([total.double().cpu() for total in sums]).tolist()), str(encoder)))


def _digest(encoder: PreTrainedModel) -> str:
    """Return a digest of the encoder's class, configuration, modules, weights and buffers."""
    return module_digest(encoder, [type(encoder).__name__, plain_config(encoder.config), str(encoder)])
