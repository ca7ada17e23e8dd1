"""What became of all rows of a reading, summed over its pieces."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sft.data.conversations import PLACES_KEPT, explain_none, refuse_bad_rows
from sft.data.lanes import Reading
from sft.data.pieces import Piece
from sft.data.report import DataReport
from sft.data.writing import agreed_kwargs
from sft.errors import DataError


class Account:
    """The sum of the journal's entries."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.lane = 0
        """The lane that the last piece is of."""
        self.last_row = 0
        """Rows of that lane up to the end of the piece."""
        self.read = DataReport()
        self.made = DataReport()
        self._answer_kwargs: dict[str, None] = {}

    def add(self, entry: Mapping[str, Any]) -> None:
        """Take in what the journal says of the next piece."""
        self.lane, self.last_row = entry["lane"], entry["last_row"]
        self.read.add(DataReport.from_dict(entry["read"]))
        self.made.add(DataReport.from_dict(entry["made"]))
        self._answer_kwargs |= dict.fromkeys(entry["answer_kwargs"])

    def judge(self, piece: Piece, max_bad_rows: int) -> None:
        """Refuse the next piece, where too many rows are unusable with it.

        Raises:
            TooManyBadRows: counting the rows up to its end.
        """
        report = DataReport()
        known = [self.reading.account] if self.reading.is_counted else [self.reading.account, self.read, piece.read]
        for some in (*known, self.made, piece.made):
            report.add(DataReport.from_dict(some.to_dict()))
        refuse(report, max_bad_rows)

    def close(self, *, max_bad_rows: int, template_kwargs: Mapping[str, Any]) -> DataReport:
        """The report of all of it.

        Raises:
            DataError: more rows are unusable than ``max_bad_rows``, or none became a conversation.
        """
        report = DataReport()
        report.add(self.reading.account)
        if not self.reading.is_counted:
            report.add(self.read)
        del report.rejected_places[PLACES_KEPT:]
        refuse(report, max_bad_rows)
        if not report.conversations and not self.reading.is_counted:
            raise DataError(explain_none(self.reading.specs, report.rows, report.rejected))
        report.add(self.made)
        refuse(report, max_bad_rows)
        report.generation_kwargs = agreed_kwargs(list(self._answer_kwargs), template_kwargs)
        return report


def refuse(report: DataReport, max_bad_rows: int) -> None:
    """Raise when more rows are unusable than the user allows."""
    refuse_bad_rows(
        report.rejected,
        report.rejected_places,
        rows=report.rows,
        max_bad_rows=max_bad_rows,
        listed=report.bad_rows,
    )
