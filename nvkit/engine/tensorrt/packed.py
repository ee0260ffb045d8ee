"""How a batch of samples of different lengths lies in memory: packed without padding, or padded to its longest.

NVIDIA's plugins take packed batches: the tokens of all samples one after another, and where each ends. A network
without them takes [samples, longest]. Both forms write a batch into page-locked memory with a few calls of numpy, tell
the shapes of the network's inputs, and pick the samples' own rows out of the output.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nvkit.engine.base import Array

CUMULATIVE, LONGEST = "cu_seqlens", "max_seqlen"
"""Inputs of a packed network beside those that samples have: ends of the sequences, and a tensor that is as long as the
longest of them, of which only the length is looked at."""

_PADDED_STEP = 16  # tokens between the lengths of padded graphs, at least
_PACKED_STEP = 4  # tokens between packed graphs of one sample, as in NVIDIA's harness
# TensorRT times every kernel at the extent that the engine is to be fastest for. For matrix products of so many tokens
# the same kernels win as for more, and timing costs as much as the tokens: on an H200 an int8 engine for 512 samples of
# 384 was not done after 3 min 46 s, while two of its 24 layers for 16 samples took 35 s.
_TIMED_TOKENS = 16_384
_ONE_BY_ONE = 8  # up to this batch size one sample alone has graphs of its own, as in NVIDIA's harness


@dataclass(frozen=True, order=True)
class Extent:
    """How large a batch is.

    Attributes:
        tokens: Of all samples together.
        samples: Number of samples.
        longest: Tokens of the longest one.
    """

    tokens: int
    samples: int
    longest: int

    def covers(self, other: Extent) -> bool:
        """Tell whether a batch of this extent has room for another."""
        return self.tokens >= other.tokens and self.samples >= other.samples and self.longest >= other.longest


@dataclass(frozen=True)
class Form(ABC):
    """A form of batches.

    Attributes:
        sources: Inputs that samples have, int32 [tokens].
        longest: Tokens of the longest sample.
    """

    sources: tuple[str, ...]
    longest: int

    @abstractmethod
    def shapes(self, extent: Extent) -> dict[str, tuple[int, ...]]:
        """Return the shape of every input of the network."""

    @abstractmethod
    def rows(self, extent: Extent) -> int:
        """Return the rows of the network's output."""

    @abstractmethod
    def fill(self, block: Array, ends: Array, parts: Sequence[Array], lengths: Array, extent: Extent) -> None:
        """Write a batch.

        Args:
            block: Room for the sources, int32 [sources, at least `rows`].
            ends: Room for the ends of the samples, int32 [at least extent.samples + 1].
            parts: Each sample's tokens, int32 [sources, its length].
            lengths: Length of each sample.
            extent: What is written; more than the samples where a graph is larger than the batch.
        """

    @abstractmethod
    def select(self, output: Array, lengths: Array, extent: Extent) -> Array:
        """Return the rows of the output that are samples' own, in their order, of [rows, ...]."""

    @abstractmethod
    def graphs(self, max_batch: int, longest: int, most: int) -> list[Extent]:
        """Return the extents that have a CUDA graph, at most `most`, for samples of up to `longest` tokens each."""

    def profile(self, max_batch: int, usual: int) -> dict[str, list[tuple[int, ...]]]:
        """Return smallest, usual and largest shape of every input, for batches whose samples have `usual` tokens."""
        extents = (
            Extent(1, 1, 1),
            self.usual(max_batch, usual),
            Extent(max_batch * self.longest, max_batch, self.longest),
        )
        shapes = [self.shapes(extent) for extent in extents]
        return {name: [shape[name] for shape in shapes] for name in shapes[0]}

    @abstractmethod
    def usual(self, max_batch: int, tokens: int) -> Extent:
        """Return the extent that the engine is to be fastest for."""


class Packed(Form):
    """All tokens one after another: [tokens], and the ends of the samples [samples + 1], of which the first is 0."""

    def shapes(self, extent: Extent) -> dict[str, tuple[int, ...]]:
        """Return the shape of every input of the network."""
        tokens = dict.fromkeys(self.sources, (extent.tokens,))
        return {**tokens, CUMULATIVE: (extent.samples + 1,), LONGEST: (extent.longest,)}

    def rows(self, extent: Extent) -> int:
        """Return the rows of the network's output: a token each."""
        return extent.tokens

    def fill(self, block: Array, ends: Array, parts: Sequence[Array], lengths: Array, extent: Extent) -> None:
        """Write a batch; a graph's further samples have no tokens, and its further tokens stay what they were."""
        count = len(lengths)
        np.cumsum(lengths, out=ends[1 : count + 1])
        tokens = int(ends[count])
        ends[count + 1 : extent.samples + 1] = tokens
        np.concatenate(parts, axis=1, out=block[:, :tokens])

    def select(self, output: Array, lengths: Array, extent: Extent) -> Array:
        """Return the rows of the samples: the first ones, as a view."""
        return output[: int(lengths.sum())]

    def graphs(self, max_batch: int, longest: int, most: int) -> list[Extent]:
        """Return NVIDIA's extents: one sample in steps of 4 tokens for small batches, else even steps of tokens."""
        room = most if max_batch == 1 else most // 2
        found = []
        if max_batch <= _ONE_BY_ONE:
            found += [Extent(n, 1, n) for n in _steps(longest, _PACKED_STEP, room)]
        if max_batch > 1:
            found += [Extent(n, max_batch, self.longest) for n in _steps(max_batch * longest, _PACKED_STEP, room)]
        return sorted(found)

    def usual(self, max_batch: int, tokens: int) -> Extent:
        """Return the extent that the engine is to be fastest for; attention takes the kernel of a batch at run time."""
        samples = max(1, min(max_batch, _TIMED_TOKENS // tokens))
        return Extent(samples * tokens, samples, self.longest)


class Padded(Form):
    """[samples, longest of the batch], zeros behind the end of a sample, also in its mask."""

    def shapes(self, extent: Extent) -> dict[str, tuple[int, ...]]:
        """Return the shape of every input of the network."""
        return dict.fromkeys(self.sources, (extent.samples, extent.longest))

    def rows(self, extent: Extent) -> int:
        """Return the rows of the network's output."""
        return extent.samples * extent.longest

    def fill(self, block: Array, ends: Array, parts: Sequence[Array], lengths: Array, extent: Extent) -> None:
        """Write a batch and its padding."""
        shape = (len(self.sources), extent.samples, extent.longest)
        target = block[:, : self.rows(extent)].reshape(shape)
        target[...] = 0
        target[:, : len(lengths)][:, _own(lengths, extent)] = np.concatenate(parts, axis=1)

    def select(self, output: Array, lengths: Array, extent: Extent) -> Array:
        """Return the rows of the samples."""
        rows = output[: self.rows(extent)].reshape(extent.samples, extent.longest, *output.shape[1:])
        return np.asarray(rows[: len(lengths)][_own(lengths, extent)])

    def graphs(self, max_batch: int, longest: int, most: int) -> list[Extent]:
        """Return extents of powers of two of samples, each in even steps of the length."""
        sizes = sorted({1 << n for n in range(max_batch.bit_length())} | {max_batch})
        lengths = _steps(longest, _PADDED_STEP, max(1, most // len(sizes)))
        return sorted(Extent(samples * length, samples, length) for samples in sizes for length in lengths)

    def usual(self, max_batch: int, tokens: int) -> Extent:
        """Return the extent that the engine is to be fastest for."""
        return Extent(max_batch * tokens, max_batch, tokens)


def told(form: Form | None) -> dict[str, Any] | None:
    """Return what an engine's card says of the form of its batches."""
    return None if form is None else {"packed": isinstance(form, Packed), "longest": form.longest}


def form_of(card: Mapping[str, Any]) -> Form | None:
    """Return the form of an engine's batches, or None where all samples have one shape."""
    lengths = card.get("lengths")
    if lengths is None:
        return None
    sources = tuple(entry["name"] for entry in card["inputs"] if entry["name"] not in (CUMULATIVE, LONGEST))
    return (Packed if lengths["packed"] else Padded)(sources, lengths["longest"])


def _steps(last: int, step: int, most: int) -> list[int]:
    """Return `most` even steps at most up to `last`, of at least `step`."""
    step = max(step, -(-last // most))
    return [min(n, last) for n in range(step, last + step, step)]


def _own(lengths: Array, extent: Extent) -> Array:
    """Return which tokens of [samples, longest] are a sample's own."""
    return np.asarray(np.arange(extent.longest) < lengths[:, None])
