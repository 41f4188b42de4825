"""The failures a user can meet: one class per exit code, one sentence each.

They live in the lowest package so that every layer can raise them. The command line prints
`str(error)` and leaves with `error.exit_code`; nothing else in the toolkit maps errors to codes.
"""

from __future__ import annotations


class CompressError(Exception):
    """Base of all failures that the toolkit explains; the message says where, what was found, what is allowed."""

    exit_code = 1


class InputError(CompressError):
    """The recipe, workload, checkpoint or data that the user gave is wrong."""

    exit_code = 2


class UnsupportedError(CompressError):
    """The model or the target cannot do what was asked."""

    exit_code = 3


class SecurityError(CompressError):
    """Something asked to run code or to leave its place; it was refused."""

    exit_code = 4


class QualityError(CompressError):
    """The work was done, or stopped early, because a quality gate is not met (accuracy, parity, NaN)."""

    exit_code = 5


class EnvironmentFailure(CompressError):
    """Disk, memory, device, a crashed worker, or another run that holds the directory."""

    exit_code = 6


def in_words(error: Exception) -> str:
    """What another's code raised, in one line: its type and the first line of what it says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__
