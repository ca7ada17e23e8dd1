"""``python -m sft.cli.launcher`` takes torchrun's words and starts processes as it does, but lets them speak.

A mistake in a configuration is one message of one process. torchrun puts thirty lines of its own behind it and ends
with 1, whatever the processes ended with; here the message is the last line, and the code is theirs.
"""

from __future__ import annotations

import logging
import signal
import sys
from collections.abc import Sequence

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import parse_args, run

from sft.errors import EXIT_OURS, EXIT_STOPPED, EXIT_USER


def main(argv: Sequence[str] | None = None) -> int:
    """Start the processes and wait for them; returns the code to end with."""
    args = parse_args(list(sys.argv[1:] if argv is None else argv))  # type: ignore[no-untyped-call]
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # what it logs of a failure is said below
    try:
        run(args)  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        return told_failure(error)
    except SignalException as error:
        return 128 + int(error.sigval)
    return 0


def told_failure(error: ChildFailedError) -> int:
    """The code to end with. What the processes cannot have said themselves is said here."""
    codes = {failure.exitcode for failure in error.failures.values()}
    for code in (EXIT_USER, EXIT_STOPPED):
        if code in codes:
            return code
    rank, first = error.get_first_failure()
    if first.exitcode < 0:
        name = signal.Signals(-first.exitcode).name
        why = " The system ends a process so when memory runs out." if name == "SIGKILL" else ""
        print(f"sft: process {rank} was ended by {name}; the others were stopped.{why}", file=sys.stderr)
        return 128 - first.exitcode
    print(f"sft: process {rank} ended with code {first.exitcode}; what it said stands above.", file=sys.stderr)
    return first.exitcode or EXIT_OURS


if __name__ == "__main__":
    sys.exit(main())
