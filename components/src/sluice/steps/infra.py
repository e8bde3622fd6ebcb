"""What the step that starts the model server says of it."""

from __future__ import annotations

from pathlib import Path

from sluice.evaluation.infra import InfraReport

LOG = "server.log"
_LINES = 40


def infra_refusal(report: InfraReport) -> str:
    """Why the server refuses a bundle; empty where it does not."""
    return "" if report.passed else f"{report.digest}: FAIL by rule infra-validate: {report.reasons[0]}"


def infra_page(report: InfraReport, directory: Path) -> str:
    """A report in Markdown, with the end of the server's log where it did not pass; ``directory`` holds that."""
    if report.passed:
        return f"# The server answers as offline\n\nBundle `{report.digest}`, {report.rows} rows over V1 and V2.\n"
    why = "\n".join(f"- {reason}" for reason in report.reasons)
    log = (directory / LOG).read_text("utf-8", "replace").splitlines()[-_LINES:]
    end = "\n".join(f"    {line}" for line in log)
    return f"# FAIL: the server\n\nBundle `{report.digest}`\n\n{why}\n\nEnd of its log (artifact `served`):\n\n{end}\n"
