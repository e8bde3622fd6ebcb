"""
Synthetic checks of a preview: the requests of a file, asked of its host, while the environment is in that stage.

    python -m sluice.monitoring.preview_checks --gateway http://gateway.kserve --environment DIR --release DIR \
        --requests requests.jsonl

``--environment`` and ``--release`` are the ConfigMaps of these names, a file a key; each line of ``--requests`` is the
body of a V1 request. Prints one line of JSON: how many were asked, and how many answered, by status. It judges nothing:
the gate does, by what the candidate's servers counted.
"""

from __future__ import annotations

import argparse
import http.client
import json
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from sluice.errors import BadInput, SluiceError, Unavailable
from sluice.stages.preview import PREVIEW

HOST_PREFIX = "preview-"
_TIMEOUT_S = 10.0


def ask_preview(gateway: str, host: str, task: str, requests: Sequence[str]) -> Counter[int]:
    """
    Answers by status.

    Args:
        gateway: ``http://name[:port]``.
        host: of the environment; its preview's is asked.
        requests: bodies.

    Raises:
        Unavailable: the gateway does not answer.
    """
    address, answers = urlsplit(gateway), Counter[int]()
    headers = {"Host": HOST_PREFIX + host, "Content-Type": "application/json"}
    for body in requests:
        connection = http.client.HTTPConnection(address.hostname or "", address.port or 80, timeout=_TIMEOUT_S)
        try:
            connection.request("POST", f"/v1/models/{task}:predict", body.encode(), headers)
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unavailable(
                gateway, f"does not answer ({error})", "set SLUICE_GATEWAY, or see the gateway"
            ) from error
        finally:
            connection.close()
        answers[answer.status] += 1
    return answers


def requests_of(path: Path) -> list[str]:
    """
    The lines of a file.

    Raises:
        BadInput: it cannot be read, has none, or one is no JSON object.
    """
    lines = [line for line in _text(path).splitlines() if line.strip()]
    for number, line in enumerate(lines, 1):
        if not _is_object(line):
            raise BadInput(f"{path}, line {number}", "is no JSON object", "write the body of one request a line")
    if not lines:
        raise BadInput(str(path), "holds no request", "write the body of one request a line")
    return lines


def _is_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise BadInput(str(path), f"cannot be read ({error})", "mount the ConfigMap") from error


def main(argv: list[str]) -> int:
    """One round of checks; none where nothing is in preview."""
    parser = argparse.ArgumentParser(description="Ask a preview the requests of a file.")
    parser.add_argument("--gateway", required=True, help="http://name[:port], where requests of users come in")
    parser.add_argument("--environment", type=Path, required=True, help="the ConfigMap `environment`, a file a key")
    parser.add_argument("--release", type=Path, required=True, help="the ConfigMap `release`, a file a key")
    parser.add_argument("--requests", type=Path, required=True, help="the body of one request a line")
    options = parser.parse_args(argv)
    try:
        requests, stage, task = (
            requests_of(options.requests),
            *(_text(options.release / key) for key in ("stage", "task")),
        )
        answers = Counter[int]()
        if stage == PREVIEW.name:
            answers = ask_preview(options.gateway, _text(options.environment / "host"), task, requests)
    except SluiceError as error:
        sys.stderr.write(f"preview_checks: {error}\n")
        return error.exit_code
    sys.stdout.write(json.dumps({"stage": stage, "asked": answers.total(), "answers": answers}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
