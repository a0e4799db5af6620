"""The exceptions that callers of Storyreel may catch.

StoryreelError
 +-- InputError (a ValueError): a configuration, an input row, a URL, an option, or a file at an
 |                              output cannot be used
 +-- StorageError (a ConnectionError): storage did not respond for too long
 +-- LockedError (a RuntimeError): another run holds the output
 +-- PoolEndedError (a RuntimeError): a pool of actors cannot continue (in `cluster.errors`)

Each also is the built-in exception that a caller would expect in its place.

Code that reads what users give (configurations, input, options, URLs), or the files of an output
(manifests, records, `job.json`), raises `InputError`. Code that computes (stages on one unit,
models, measures, training) raises a plain `ValueError`, as numpy and torch do: the pool turns it
into a row of `failures`, so that no caller meets it. A broken invariant of our own is an `assert`.
"""


class StoryreelError(Exception):
    """Root of all exceptions that Storyreel defines."""


class InputError(StoryreelError, ValueError):
    """A given value, or a file at a given place, cannot be used; the message says which and why."""


class StorageError(StoryreelError, ConnectionError):
    """Storage has failed for longer than this process waits for it."""


class LockedError(StoryreelError, RuntimeError):
    """Another run holds the lock of an output, or has taken it over; the message says which."""
