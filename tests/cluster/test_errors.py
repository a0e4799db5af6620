"""Errors are told apart by what has to follow from them."""

import pytest

from storyreel.cluster.errors import ErrorClass, classify, describe


class OutOfMemoryError(RuntimeError):
    """Named like torch's."""


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("panels: empty"), ErrorClass.BAD_INPUT),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid"), ErrorClass.BAD_INPUT),
        (MemoryError(), ErrorClass.OUT_OF_MEMORY),
        (OutOfMemoryError("Tried to allocate 2 GiB"), ErrorClass.OUT_OF_MEMORY),
        (RuntimeError("CUDA error: out of memory"), ErrorClass.OUT_OF_MEMORY),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
         ErrorClass.OUT_OF_MEMORY),
        (RuntimeError("CUDA error: an illegal memory access was encountered"),
         ErrorClass.CUDA_STICKY),
        (RuntimeError("CUDA error: device-side assert triggered"), ErrorClass.CUDA_STICKY),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), ErrorClass.EXCEPTION),
        (OSError("No space left on device"), ErrorClass.EXCEPTION),
    ],
)  # fmt: skip
def test_the_class_of_an_error_says_whether_and_where_to_try_again(
    error: Exception, expected: ErrorClass
) -> None:
    assert classify(error) is expected


def test_a_message_is_one_bounded_line_that_names_its_type() -> None:
    assert describe(KeyError("a\n  b")) == r"KeyError: 'a\n b'"
    text = describe(RuntimeError("line\n" * 10_000))
    assert text.startswith("RuntimeError: line line") and text.endswith("...")
    assert len(text) == 1000
