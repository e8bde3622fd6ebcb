"""
Texts: what is read for its words.

A model gets counts of hashed n-grams (Weinberger et al. 2009, "Feature Hashing for Large Scale Multitask Learning"): of
words and, where asked for, of characters, each in a column by a hash of its bytes; a column is ``log(1 + count)``, and
a row has length 1. Nothing is learned and no vocabulary is shipped, so training and serving cannot differ in one, an
unknown word is a word like others, and every family, every student and every baseline can take the columns as they are:
numbers of tokens, which an embedding would need, mean nothing to all but that.
"""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import polars as pl
from pydantic import Field

from sluice.arrays import Floats, Floats32
from sluice.inputs.kind import InputCode, NotOfKindError
from sluice.inputs.strings import NUL, StringInput

MOST_CHARACTERS = 100_000
_WORD = re.compile(r"\w+")


class TextCode(InputCode):
    """
    Hashed n-grams of a text, lower case.

    Attributes:
        buckets: columns.
        words: runs of 1 to so many words are counted.
        characters: runs of so many characters are counted too; 0 leaves them out.
    """

    kind: Literal["text"] = "text"
    buckets: int = Field(ge=2)
    words: int = Field(ge=0)
    characters: int = Field(ge=0)

    @property
    def row_shape(self) -> tuple[int, ...]:
        """As of ``InputCode``."""
        return (self.buckets,)

    def encode(self, values: Sequence[Any] | pl.Series) -> Floats32:
        """As of ``InputCode``."""
        out = np.zeros((len(values), self.buckets), np.float32)
        for row, text in zip(out, values, strict=True):
            counts = Counter(zlib.crc32(gram.encode()) % self.buckets for gram in self.grams(text))
            if counts:
                code = np.log1p(np.fromiter(counts.values(), np.float64, len(counts)))
                row[list(counts)] = code / np.sqrt(np.square(code).sum())
        return out

    def grams(self, text: str) -> Iterator[str]:
        """The n-grams that are counted; those of characters begin with a sign that no word has."""
        folded = text.casefold()
        words = _WORD.findall(folded)
        for size in range(1, self.words + 1):
            yield from (" ".join(words[at : at + size]) for at in range(len(words) - size + 1))
        if self.characters:
            line = f" {folded} "
            yield from (f"\0{line[at : at + self.characters]}" for at in range(len(line) - self.characters + 1))


class TextInput(StringInput):
    """
    A text of valid Unicode.

    Attributes:
        longest: characters.
        empty: whether a text of no characters, or of nothing but blanks, may come.
        buckets, words, characters: of its code, see ``TextCode``.
    """

    kind: Literal["text"] = "text"
    longest: int = Field(default=2000, ge=1, le=MOST_CHARACTERS)
    empty: bool = False
    buckets: int = Field(default=1024, ge=2, le=1 << 16)
    words: int = Field(default=2, ge=0, le=4)
    characters: int = Field(default=0, ge=0, le=8)
    may_be_null: ClassVar[bool] = False
    by_digest: ClassVar[bool] = True

    @property
    def expected(self) -> str:
        """As of ``InputKind``."""
        return f"a text of at most {self.longest} characters{'' if self.empty else ', not empty'}"

    @property
    def zero(self) -> str:
        """As of ``InputKind``."""
        return "a"

    @property
    def description(self) -> Any:
        """As of ``InputKind``."""
        return {"kind": self.kind, "longest": self.longest, "empty": self.empty}

    def read(self, value: Any) -> str:
        """As of ``InputKind``."""
        if type(value) is not str:
            raise NotOfKindError
        if len(value) > self.longest:
            raise NotOfKindError(f"has {len(value)} characters, more than {self.longest}")
        if not self.empty and not value.strip():
            raise NotOfKindError("is empty")
        if NUL in value:
            raise NotOfKindError(f"has a NUL at character {value.index(NUL)}")
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise NotOfKindError(f"is no valid Unicode at character {error.start}") from error
        return value

    def refused(self, column: pl.Series) -> tuple[pl.Series, str]:
        """As of ``InputKind``."""
        if len(odd := column.filter(column.str.contains(NUL, literal=True))):
            return odd, "has a NUL"
        odd = column.filter(column.str.len_chars() > self.longest)
        if len(odd) or self.empty:
            return odd, f"has more than {self.longest} characters"
        # Python's blanks, as a server has them: polars strips those of Unicode's White_Space.
        blank = pl.Series([not text.strip() for text in column], dtype=pl.Boolean)
        return column.filter(blank), "is empty"

    def code(self, name: str) -> TextCode:
        """As of ``InputKind``."""
        return TextCode(name=name, buckets=self.buckets, words=self.words, characters=self.characters)

    def content(self, value: Any) -> bytes:
        """As of ``InputKind``: UTF-8."""
        return str(value).encode()

    def from_content(self, content: bytes) -> str:
        """As of ``InputKind``."""
        return content.decode()

    def summary(self, values: Sequence[Any] | pl.Series) -> Mapping[str, Floats]:
        """
        As of ``InputKind``: ``length`` in characters, ``words``, and ``foreign``, the share of characters that are
        not ASCII (0 of an empty text).
        """
        texts = list(values)
        length = np.array([len(text) for text in texts], np.float64)
        ascii_bytes = np.array([len(text.encode("ascii", "ignore")) for text in texts], np.float64)
        return {
            "length": length,
            "words": np.array([len(_WORD.findall(text)) for text in texts], np.float64),
            "foreign": (length - ascii_bytes) / np.maximum(length, 1.0),
        }
