"""The one page that a run ends with: everything that was seen and decided, in a file that needs no network."""

from sluice_local.report.data_picture import write_data_picture
from sluice_local.report.page import build_report

__all__ = ["build_report", "write_data_picture"]
