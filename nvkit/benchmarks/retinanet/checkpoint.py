"""Reading PyTorch's checkpoint files without PyTorch, and without running what they hold.

A checkpoint is a zip archive: `data.pkl`, a pickle in which tensors refer to files `data/<key>` of raw numbers. A
pickle can name any function to be called. Here only tensors and ordered dictionaries are made; every other name
becomes an object that does nothing but keep its state, which is how the tensors inside of a whole pickled network are
found. Tensors are read from the archive only when asked for.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from nvkit.errors import ModelError

Array = npt.NDArray[Any]

_DTYPES = {
    "DoubleStorage": np.dtype("<f8"),
    "FloatStorage": np.dtype("<f4"),
    "HalfStorage": np.dtype("<f2"),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}
_WRAPPERS = ("model", "state_dict")  # keys under which training scripts keep the network beside other things
_AGAIN = "Download it again and compare its size and checksum with the source."


class Checkpoint:
    """The tensors of a checkpoint file by their names in the network's state dictionary.

    Args:
        path: A checkpoint, or a zip archive that holds exactly one.

    Attributes:
        names: All names.

    Raises:
        ModelError: the file is none, was cut short, or holds no network.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            with zipfile.ZipFile(path) as archive, _Opened(archive) as inner:
                root = _load(inner)
        except _BROKEN as error:
            size = f"{path.stat().st_size:,} bytes"
            reason = str(error).splitlines()[0][:200] if str(error) else type(error).__name__
            raise ModelError(
                f"{path} ({size}) is not a PyTorch checkpoint that can be read: {reason}.",
                f"{_AGAIN} Files older than PyTorch 1.6 must be saved again.",
            ) from error
        for key in _WRAPPERS:
            if isinstance(root, Mapping) and key in root:
                root = root[key]
        self._tensors = {name.removeprefix("module."): tensor for name, tensor in _tensors(root, "")}
        self.names = frozenset(self._tensors)
        if not self.names:
            raise ModelError(f"{path} holds no tensors of a network.", "Give the checkpoint of the reference model.")

    def read(self, names: Iterator[str] | list[str]) -> dict[str, Array]:
        """Read these tensors, all of which must be there.

        Raises:
            ModelError: the archive does not hold the numbers of one.
        """
        found = {}
        with zipfile.ZipFile(self._path) as archive, _Opened(archive) as inner:
            folder = _folder(inner)
            for name in names:
                try:
                    found[name] = self._tensors[name].read(inner, folder)
                except _BROKEN as error:
                    raise ModelError(f"{self._path}: tensor '{name}' cannot be read: {error}.", _AGAIN) from error
        return found


@dataclass(frozen=True)
class _Storage:
    """A file of raw numbers in the archive."""

    dtype: np.dtype[Any]
    key: str


@dataclass(frozen=True)
class _Tensor:
    """A view of a storage; offset and strides in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def read(self, archive: zipfile.ZipFile, folder: str) -> Array:
        numbers = np.frombuffer(archive.read(f"{folder}data/{self.storage.key}"), self.storage.dtype)
        last = self.offset + sum((size - 1) * step for size, step in zip(self.shape, self.strides, strict=True))
        if min((self.offset, *self.shape, *self.strides), default=0) < 0 or last >= len(numbers):
            raise ValueError(f"its shape {self.shape} does not fit {len(numbers):,} numbers")
        step = numbers.itemsize
        view = np.lib.stride_tricks.as_strided(
            numbers[self.offset :], self.shape, tuple(stride * step for stride in self.strides), writeable=False
        )
        return np.array(view)


class _Kept:
    """Stands for any object of the pickle that is not known; calling it makes another one."""

    state: Any = None

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __call__(self, *_: Any, **__: Any) -> _Kept:
        return _Kept()

    # A pickle may fill objects as lists, sets or dictionaries.
    def append(self, _: Any) -> None: ...

    def extend(self, _: Any) -> None: ...

    def add(self, _: Any) -> None: ...

    def __setitem__(self, _: Any, __: Any) -> None: ...


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return lambda storage, offset, size, stride, *_: _Tensor(storage, offset, tuple(size), tuple(stride))
        if (module, name) in (("torch._utils", "_rebuild_parameter"), ("torch.nn.parameter", "Parameter")):
            return lambda data, *_: data
        return _Kept

    def persistent_load(self, pid: Any) -> Any:
        kind, dtype, key, _location, _count = pid
        return _Storage(dtype, str(key)) if kind == "storage" and isinstance(dtype, np.dtype) else _Kept()


# What a damaged archive or pickle makes zipfile, zlib and pickle raise; they have no common base.
_BROKEN = (
    zipfile.BadZipFile,
    pickle.UnpicklingError,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    ImportError,
    NotImplementedError,
    RecursionError,
    MemoryError,
)


class _Opened:
    """An archive inside of an archive, or the archive itself."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        self._file: IO[bytes] | None = None
        names = archive.namelist()
        self._archive = archive
        if not any(name.endswith("data.pkl") for name in names):
            inner = [name for name in names if name.endswith((".pth", ".pt"))]
            if len(inner) != 1:
                raise ValueError(f"it holds {len(inner)} checkpoints, not one")
            self._file = archive.open(inner[0])
            self._archive = zipfile.ZipFile(self._file)

    def __enter__(self) -> zipfile.ZipFile:
        return self._archive

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._archive.close()
            self._file.close()


def _folder(archive: zipfile.ZipFile) -> str:
    """Return the folder of `data.pkl` in the archive; it bears the name of the file that was saved."""
    return next(name for name in archive.namelist() if name.endswith("data.pkl")).removesuffix("data.pkl")


def _load(archive: zipfile.ZipFile) -> Any:
    with archive.open(f"{_folder(archive)}data.pkl") as stream:
        return _Unpickler(stream).load()


def _tensors(node: Any, prefix: str) -> Iterator[tuple[str, _Tensor]]:
    """Yield the tensors of a state dictionary, or of a pickled network and of the modules in it."""
    if isinstance(node, Mapping):
        for name, value in node.items():
            if isinstance(value, _Tensor):
                yield f"{prefix}{name}", value
    elif isinstance(node, _Kept) and isinstance(node.state, Mapping):
        for part in ("_parameters", "_buffers"):
            yield from _tensors(node.state.get(part) or {}, prefix)
        for name, module in (node.state.get("_modules") or {}).items():
            yield from _tensors(module, f"{prefix}{name}.")
