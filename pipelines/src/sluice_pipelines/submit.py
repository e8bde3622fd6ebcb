"""
Upload a compiled pipeline to Kubeflow Pipelines, run it, and follow the run.

    python -m sluice_pipelines.submit training --host http://localhost:8888 -p gitops=ssh://git@host/r.git -p bundles=s3://b/t
    python -m sluice_pipelines.submit monitor-and-retrain --host ... --recurring "0 0 3 * * *"
    python -m sluice_pipelines.submit training --validate          only checks the parameters, asks nobody

Nothing is sent before every parameter is in its range. A version is uploaded once: its name ends with the digest of the
file. Exit codes: 0 well, 1 the run did not end well, 2 wrong input or no answer, 3 a rule refused the candidate, 130
interrupted (the run goes on).

Environment:
    KF_PIPELINES_ENDPOINT   the host, where --host is not given
    KFP_TOKEN               bearer token
"""

import argparse
import contextlib
import json
import os
import re
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import urllib3

from sluice.content import digest_of_file
from sluice.errors import BadInput, SluiceError
from sluice_pipelines.catalogue import CATALOGUE
from sluice_pipelines.parameters import parse_parameters
from sluice_pipelines.waiting import device_needs

_FINAL_STATES = {"SUCCEEDED", "FAILED", "SKIPPED", "CANCELED"}
_PLUMBING = re.compile(r"root|executor|sluice-.*|.*-driver|.*\.onExit|.*\(\d+\)")
"""What KFP lists beside the steps: the workflow, drivers, executors, hooks, each try of each; some have no name."""
_POD = re.compile(r"executor(\(\d+\))?")
_REFUSED = re.compile(r"refused(-\d+)?")
_DASHBOARD = "`kubectl port-forward -n kubeflow svc/ml-pipeline-ui 8888:80`"
_ANSWER_SECONDS = 5.0
_LOOK_SECONDS = 5.0
_PATIENCE_SECONDS = 120.0
"""How long a pod may wait for a node before it is told."""


class Host:
    """
    A KFP API server.

    Args:
        url: as a browser reaches it.
        namespace: the profile's, on a multi-user installation.

    Raises:
        BadInput: it does not answer, or not as KFP does.
    """

    def __init__(self, url: str, namespace: str, token: str) -> None:
        self.url, self._namespace, self._token = url.rstrip("/"), namespace, token
        _require_answer(self.url, token)
        from kfp import Client

        self._client = Client(host=self.url, namespace=namespace, existing_token=token or None)

    def upload(self, compiled: Path, name: str) -> tuple[str, str]:
        """Ids of the pipeline and of the version with exactly these bytes; uploaded where they are not there yet."""
        from kfp_server_api import V2beta1Pipeline  # type: ignore[import-untyped]

        version = f"{name}-{digest_of_file(compiled)[7:19]}"
        pipeline = self._client.get_pipeline_id(name)
        if pipeline is None:
            # An upload of a pipeline would make a version of its own, called as the pipeline.
            body = V2beta1Pipeline(name=name, display_name=name, namespace=self._namespace)
            pipeline = self._client._pipelines_api.pipeline_service_create_pipeline(body).pipeline_id
        there = [one for one in self._versions(pipeline) if one.display_name == version]
        versions = there or [self._client.upload_pipeline_version(str(compiled), version, pipeline_id=pipeline)]
        return pipeline, versions[0].pipeline_version_id

    def run(self, ids: tuple[str, str], experiment: str, name: str, values: dict[str, Any], cron: str) -> str:
        """Start a run, or with ``cron`` (six fields) make a recurring one; returns its id."""
        where = self._client.create_experiment(experiment, namespace=self._namespace).experiment_id
        arguments = {"params": values, "pipeline_id": ids[0], "version_id": ids[1]}
        if cron:
            recurring = self._client.create_recurring_run(
                where, name, cron_expression=cron, no_catchup=True, **arguments
            )
            return str(recurring.recurring_run_id)
        return str(self._client.run_pipeline(where, name, **arguments).run_id)

    def link(self, kind: str, run: str) -> str:
        """Of a run's page, or where to open it: an API server alone has no pages."""
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            page = urllib3.request(
                "GET", self.url, headers=_headers(self._token), timeout=_ANSWER_SECONDS, retries=False
            )
            if page.status < 400 and "html" in page.headers.get("content-type", ""):
                return f"{self.url}/#/{kind}/details/{run}"
        return f"open /#/{kind}/details/{run} of the dashboard: this host has no pages ({_DASHBOARD})"

    def follow(self, run: str) -> Iterator[tuple[str, dict[str, str], bool]]:
        """State of the run and of each step, and whether a pod waits for a node, until it ended."""
        while True:
            status = self._client.get_run(run)
            details = status.run_details.task_details if status.run_details else []
            steps = {
                one.display_name: str(one.state)
                for one in details or []
                if not _PLUMBING.fullmatch(one.display_name or "root")
            }
            yield str(status.state), steps, any(map(_waits, details or []))
            if status.state in _FINAL_STATES:
                return
            time.sleep(_LOOK_SECONDS)

    def _versions(self, pipeline: str) -> list[Any]:
        versions: list[Any] = []
        token = ""
        while True:
            page = self._client.list_pipeline_versions(pipeline, page_token=token, page_size=100)
            versions += page.pipeline_versions or []
            token = page.next_page_token or ""
            if not token:
                return versions


def _waits(task: Any) -> bool:
    return bool(_POD.fullmatch(task.display_name or "")) and str(task.state) == "PENDING"


def _headers(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"} if token else {}


def _require_answer(url: str, token: str) -> None:
    """KFP's client asks a silent host five times, half a minute long; this asks once."""
    if not url.startswith(("http://", "https://")):
        raise BadInput(f"host {url!r}", "is no URL", "give --host http://..., or set KF_PIPELINES_ENDPOINT")
    if not (token.isascii() and token.isprintable()):
        raise BadInput("KFP_TOKEN", "has characters that no header may have", "write one line of ASCII")
    fix = f"check the address and {_DASHBOARD}"
    try:
        health = f"{url}/apis/v2beta1/healthz"
        answer = urllib3.request("GET", health, headers=_headers(token), timeout=_ANSWER_SECONDS, retries=False)
        if answer.status != 200:
            rule = "refuses us" if answer.status in (401, 403) else "does not answer as KFP does"
            raise BadInput(f"host {url}", f"{rule} (status {answer.status})", "set KFP_TOKEN, or " + fix)
        answer.json()
    except (urllib3.exceptions.HTTPError, ValueError) as error:
        raise BadInput(f"host {url}", f"does not answer as KFP does ({error})", fix) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    options = _parser().parse_args(arguments)
    warnings.simplefilter("ignore")
    try:
        return _submit(options)
    except SluiceError as error:
        sys.stderr.write(f"submit: {error}\n")
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def _submit(options: argparse.Namespace) -> int:
    if options.pipeline not in CATALOGUE:
        known = ", ".join(sorted(CATALOGUE))
        raise BadInput(f"pipeline {options.pipeline!r}", "is not known", f"choose one of {known}")
    compiled = Path(str(files("sluice_pipelines"))) / "compiled" / f"{options.pipeline}.yaml"
    parameters = CATALOGUE[options.pipeline].parameters
    values = parse_parameters(options.pipeline, parameters, options.parameter, options.parameters)
    if options.recurring and len(options.recurring.split()) != 6:
        fix = "write seconds minutes hours day month weekday, for example '0 0 3 * * *'"
        raise BadInput(f"--recurring {options.recurring!r}", "has not six fields", fix)
    if options.validate:
        document = {"pipeline": options.pipeline, "parameters": values}
        _say(options, document, f"{options.pipeline}: all parameters are in range")
        return 0
    host = Host(options.host, options.namespace, os.environ.get("KFP_TOKEN", ""))
    return _start_run(host, options, compiled, values)


def _start_run(host: Host, options: argparse.Namespace, compiled: Path, values: dict[str, Any]) -> int:
    from kfp_server_api.exceptions import ApiException  # type: ignore[import-untyped]

    name = f"sluice-{options.pipeline}"
    job = options.name or f"{name}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
    try:
        with contextlib.redirect_stdout(sys.stderr):  # KFP's client says where to look, in no format
            ids = host.upload(compiled, name)
            run = host.run(ids, options.experiment, job, values, options.recurring)
        kind = "recurringrun" if options.recurring else "runs"
        link = host.link(kind, run)
        document = {"pipeline_id": ids[0], "version_id": ids[1], "run_id": run, "name": job, "link": link}
        _say(options, document, f"{job}: {link}")
        for need in device_needs(compiled):
            sys.stderr.write(f"submit: {need}\n")
        return _follow(host, run, options.json) if options.follow and not options.recurring else 0
    except ApiException as error:
        reason = " ".join(str(error.body or error.reason).split())[:300]
        rule = f"refuses it (status {error.status}: {reason})"
        raise BadInput(f"host {host.url}", rule, "mend that, then again") from error
    except urllib3.exceptions.HTTPError as error:
        raise BadInput(f"host {host.url}", f"stopped answering ({error})", "the run may go on: look there") from error


def _follow(host: Host, run: str, as_json: bool) -> int:
    from rich.console import Console

    console, before, state, waiting = Console(stderr=True), dict[str, str](), "", 0.0
    with console.status("waiting for the first step") as line:
        for state, steps, waits in host.follow(run):
            for step, now in steps.items():
                if before.get(step) != now:
                    _step(console, step, now, as_json)
            before = steps
            going = [step for step, now in steps.items() if now == "RUNNING"]
            line.update(f"{state.lower()}: {', '.join(going) or 'nothing runs now'}")
            waiting = waiting or time.monotonic() if waits else 0.0
            if waits and time.monotonic() - waiting > _PATIENCE_SECONDS:
                why = f"kubectl describe pod -l pipeline/runid={run}"
                console.print(
                    f"submit: a pod of {', '.join(going) or 'the run'} waits for a node: {why}", soft_wrap=True
                )
                waiting = float("inf")
    refused = any(_REFUSED.fullmatch(step) and now == "SUCCEEDED" for step, now in before.items())
    if as_json:
        sys.stdout.write(json.dumps({"run_id": run, "state": state, "refused": refused}) + "\n")
    else:
        console.print(f"run {run} ended: {state}{', refused: see the note of exit-note' if refused else ''}")
    return 3 if refused else 0 if state == "SUCCEEDED" else 1


def _step(console: Any, step: str, state: str, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps({"step": step, "state": state}) + "\n")
        sys.stdout.flush()
    else:
        colour = {"SUCCEEDED": "green", "FAILED": "red"}.get(state, "dim")
        console.print(f"[{colour}]{state:>10}[/]  {step}")


def _say(options: argparse.Namespace, document: dict[str, Any], text: str) -> None:
    sys.stdout.write((json.dumps(document, sort_keys=True) if options.json else text) + "\n")
    sys.stdout.flush()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="sluice_pipelines.submit", description="Run a pipeline on Kubeflow Pipelines."
    )
    parser.add_argument("pipeline", help=", ".join(sorted(CATALOGUE)))
    parser.add_argument("-p", dest="parameter", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--parameters", type=Path, help="JSON file of parameters")
    parser.add_argument("--host", default=os.environ.get("KF_PIPELINES_ENDPOINT", ""), help="URL of KFP")
    parser.add_argument("--namespace", default="kubeflow", help="the profile's, on a multi-user installation")
    parser.add_argument("--experiment", default="sluice")
    parser.add_argument("--name", default="", help="of the run")
    parser.add_argument("--recurring", default="", metavar="CRON", help="six fields; makes a recurring run")
    parser.add_argument("--follow", action="store_true", help="until the run ended")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    parser.add_argument("--validate", action="store_true", help="only check the parameters")
    return parser


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
