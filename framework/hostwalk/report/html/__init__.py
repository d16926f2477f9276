"""The report as one HTML page that stands alone: no other file, and no script that is needed to read it."""

from hostwalk.report.html.page import text

__all__ = ["text"]
