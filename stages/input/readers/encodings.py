"""Opens text files in the encoding that they have: UTF-8 as a rule, else found by their bytes."""

import codecs
import io
from typing import IO

from charset_normalizer import from_bytes

from storyreel.stages.errors import InputError
from storyreel.stages.input.readers.rows import MAX_FILE_BYTES

SAMPLE_BYTES = 64 << 10
"""The part of a file that decides its encoding."""
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # begins as UTF-16 does
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
# What spreadsheets and editors write where they do not write UTF-8.
_OTHERS = [
    "cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256",
    "cp932", "euc_jp", "gb18030", "big5", "cp949", "koi8_r",
]  # fmt: skip


def open_text(file: IO[bytes]) -> io.TextIOWrapper:
    """Open a file as text; a wrong byte of UTF-8 becomes a surrogate, so that only its row fails.

    Raises:
        InputError: the file has a mark of UTF-16 and nothing behind it.
    """
    encoding = _encoding_of(file)
    file.seek(0)
    return io.TextIOWrapper(file, encoding, errors="surrogateescape", newline="")


def read_text(file: IO[bytes]) -> str:
    """Read a whole file as text.

    Raises:
        InputError: it is too large.
        UnicodeDecodeError: its encoding is unknown.
    """
    with open_text(file) as text:
        content = text.read(MAX_FILE_BYTES)
    if len(content) == MAX_FILE_BYTES:  # there may be more
        raise InputError(f"is larger than {MAX_FILE_BYTES} bytes; use JSONL, CSV or Parquet")
    check_utf8(content)
    return content.replace("\r\n", "\n").replace("\r", "\n")


def check_utf8(text: str) -> None:
    """Raise UnicodeDecodeError if a text contains bytes that are not UTF-8."""
    if not text.isascii():
        text.encode("utf-8", "surrogateescape").decode()


def _encoding_of(file: IO[bytes]) -> str:
    sample = file.read(SAMPLE_BYTES)
    for mark, encoding in _MARKS.items():
        if sample.startswith(mark):
            if sample == mark:
                raise InputError("contains no text")
            return encoding
    if len(sample) == SAMPLE_BYTES:  # its last letter may be cut
        sample = sample.rstrip(bytes(range(0x80, 0x100)))
    if _is_utf8(sample):
        return "utf-8"
    found = from_bytes(sample, cp_isolation=_OTHERS).best()
    return "utf-8" if found is None else found.encoding


def _is_utf8(sample: bytes) -> bool:
    """True if some of the bytes beyond ASCII are UTF-8; those that are not are mistakes."""
    return sample.isascii() or not sample.decode("utf-8", "ignore").isascii()
