"""
Serve one bundle: kserve's V1 and V2 protocols over a verified bundle, without TensorFlow.

    python -m sluice_serving.predictor --bundle .sluice/bundles/sha256-… --digest sha256:… --model_name TASK \
        --http_port 8080 [--host 0.0.0.0] [--store .sluice/features] [--role stable] \
        [--log predictions.jsonl | --collector http://collector:8080 --spool DIR [--log_percent 100]] \
        [--seldon_names] [--json_log [--release DIR]]

An instance is either entity keys and request inputs (features are then read online: from the folder ``--store``, or by
the definitions in ``--feature_repo`` from the Redis that SLUICE_REDIS names) or all features of
the model. Prints ``ready http://<host>:<port>`` once it answers; a bundle that is not what its digest says ends it with
one line and exit code 2, before anything listens.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sluice.child_process import end_with_stdin
from sluice.errors import BadInput, SluiceError
from sluice.features.request_reader import RequestReader
from sluice.http_server.boundary import ErrorLines
from sluice.models.bundle import Bundle, load_bundle
from sluice.models.request import MAX_TEXT, BadRequest, InferenceRequest, columns_of, parse_v1
from sluice.models.request_headers import ROUTES, Context, context_of_any, parse_context
from sluice.models.request_v2 import parse_v2
from sluice.predictions.log import PredictionLog, PredictionRecord
from sluice_serving.answers import Answers
from sluice_serving.logged_inputs import LoggedInputs
from sluice_serving.rows import Features, RequestRows, row_id, unread_records

if TYPE_CHECKING:
    from sluice.features.request_reader import FeatureReader, FeatureRows
    from sluice_serving.events import EventLog
    from sluice_serving.meters import Meters
    from sluice_serving.metrics import Cause


def arguments(argv: list[str]) -> argparse.Namespace:
    """The command line; an unknown argument is refused with exit code 2."""
    from sluice_serving.shipping import add_arguments

    parser = argparse.ArgumentParser(description="Serve one bundle over KServe's V1 and V2 protocols.")
    parser.add_argument("--bundle", type=Path, required=True, help="directory of the bundle")
    parser.add_argument("--digest", required=True, help="what the bundle must be: sha256:<hex>")
    parser.add_argument("--model_name", required=True, help="name on the endpoint path: the task")
    parser.add_argument("--http_port", type=int, default=8080, help="0 takes a free port")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 inside a pod")
    features = parser.add_mutually_exclusive_group()
    features.add_argument("--store", type=Path, help="folder of the feature store to read features from")
    features.add_argument("--feature_repo", type=Path, help="feature definitions to read features from Redis by")
    add_arguments(parser)
    parser.add_argument("--role", choices=["stable", "candidate"], default="stable")
    parser.add_argument("--seldon_names", action="store_true", help="count requests under Seldon's names too")
    parser.add_argument("--json_log", action="store_true", help="say failures and refusals on standard error, as JSON")
    parser.add_argument("--release", type=Path, help="the ConfigMap `release`: its rollout and sequence are said too")
    parser.add_argument("--end_with_stdin", action="store_true", help="end when the parent closes our standard input")
    return parser.parse_args(argv)


class Predictor:
    """One bundle, its counts, one optional feature store, one optional log: everything but HTTP."""

    def __init__(
        self, bundle: Bundle, meters: Meters, reader: FeatureReader | None, log: PredictionLog | None, role: str
    ) -> None:
        self.bundle, self.meters, self.reader, self.log, self.role = bundle, meters, reader, log, role
        self.manifest = bundle.manifest.features
        self.answers = Answers(bundle)
        self._inputs = LoggedInputs(self.manifest)
        from sluice_serving import tracing

        self.answered = self.failed = 0
        self.events: EventLog | None = None
        self._failure: BaseException | None = None
        self._error_lines = ErrorLines("predictor")
        self._tracing = tracing
        self._warm()

    @property
    def identity(self) -> dict[str, str]:
        """What spans and log lines say of this process."""
        return {"task": self.bundle.manifest.task, "digest": self.bundle.digest, "role": self.role}

    def _warm(self) -> None:
        """One prediction and one read before anybody asks: what is loaded lazily is loaded then."""
        kinds = {feature.name: feature.kind for feature in self.manifest.features}
        self.bundle.predict({name: [None if kind.may_be_null else kind.zero] for name, kind in kinds.items()})
        if self.reader is not None:
            nobody = {feature.name: feature.kind.zero for feature in self.manifest.carried}
            with contextlib.suppress(SluiceError):
                self.reader.read([nobody], datetime.now(UTC))

    def rows(self, version: str, body: bytes, headers: Mapping[str, str]) -> RequestRows:
        """Parse, check and complete a request; raises ``BadRequest`` for what a client did wrong."""
        start = time.perf_counter()
        context = parse_context(headers)
        self._tracing.describe(context)
        online = self.reader is not None
        if version == "v1":
            request = parse_v1(body, self.manifest, reads_online=online)
        else:
            request = parse_v2(body, self.manifest, reads_online=online, outputs=self.answers.names)
        try:
            with self._tracing.span("features"):
                read = self._features(request, context)
            read.require_rows(version)
        except BadRequest:
            raise
        except Exception as error:
            nothing: dict[int, Mapping[str, Any]] = {i: {} for i in range(len(request.instances))}
            self._record_failure(request, context, start, error, cause="features", features=nothing)
            raise
        if read.failures:
            nothing = {number: {} for number in read.failures}
            self._record_failure(request, context, start, read.fault(), cause="features", features=nothing, whole=False)
        return RequestRows(request, context, *read, version, start, range(len(request.instances)))

    def _features(self, request: InferenceRequest, context: Context) -> Features:
        if request.online and self.reader is not None:
            read = self._read(self.reader, request, context)
            return Features(read.rows, read.missing, read.stale, read.as_of, read.failures)
        names = self.manifest.names
        rows = [{name: instance[name] for name in names} for instance in request.instances]
        missing = [[name for name, value in row.items() if value is None] for row in rows]
        return Features(rows, missing, [()] * len(rows), [{} for _ in rows])

    @staticmethod
    def _read(reader: FeatureReader, request: InferenceRequest, context: Context) -> FeatureRows:
        try:
            return reader.read(request.instances, context.event_time)
        except BadInput as error:
            refusal = BadRequest(error.thing, error.rule, error.fix, part="values")
            refusal.rows = len(request.instances)
            raise refusal from error

    def answer(self, rows: RequestRows) -> bytes:
        """Score the rows that have features, log every prediction, and only then give the answer to send."""
        sound = rows.sound
        try:
            with self._tracing.span("model"):
                predictions = self.bundle.predict(columns_of(sound.features, self.manifest.names))
            if not np.isfinite(predictions).all():
                raise ArithmeticError("the model gave a score that is not finite")
        except Exception as error:
            features = dict(zip(sound.numbers, sound.features, strict=True))
            self._record_failure(rows.request, rows.context, rows.start, error, cause="model", features=features)
            raise
        self._record(sound, predictions.tolist())
        self.answered += len(predictions)
        values = self.bundle.target.answer(predictions.reshape(len(predictions), -1), self.bundle.manifest.threshold)
        if rows.version == "v1":
            return self.answers.v1(sound.numbers, values, rows.failures)
        return self.answers.v2(rows.request, values)

    def _record(self, rows: RequestRows, predictions: list[Any]) -> None:
        ms = _milliseconds_since(rows.start)
        scores, several = _logged(predictions)
        self.meters.count_answers(rows, [score for score in scores if score is not None], ms)
        log = self._log_of(rows.context, len(rows.request.instances))
        if log is None:
            return
        each = zip(rows.numbers, rows.features, rows.missing, rows.stale, rows.as_of, scores, several, strict=True)
        log.write(
            self._line(
                rows.request,
                rows.context,
                i,
                ms,
                features,
                status=200,
                score=score,
                prediction=prediction,
                missing=missing,
                stale=stale,
                as_of=as_of,
            )
            for i, features, missing, stale, as_of, score, prediction in each
        )

    def _record_failure(
        self,
        request: InferenceRequest,
        context: Context,
        start: float,
        error: Exception,
        *,
        cause: Cause,
        features: Mapping[int, Mapping[str, Any]],
        whole: bool = True,
    ) -> None:
        """Rows that get no score, by their number, with the features that they had; ``whole``: nor does any other."""
        ms, n = _milliseconds_since(start), len(features)
        self.meters.count_failures(context.route, cause, n, ms, context.event_time, whole=whole)
        self.failed += n
        self._failure = error
        if self.events is not None:
            self.events.report_failure(cause, context.request_id, context.rollout, error)
        if log := self._log_of(context, len(request.instances)):
            log.write(self._line(request, context, i, ms, row) for i, row in features.items())

    def _log_of(self, context: Context, n: int) -> PredictionLog | None:
        """Where the ``n`` rows of a request go, which are in its sample all together or not at all."""
        return self.log if self.log is not None and self.log.keeps(row_id(context, n, 0)) else None

    def _line(
        self,
        request: InferenceRequest,
        context: Context,
        index: int,
        milliseconds: float,
        features: Mapping[str, Any],
        *,
        status: int = 500,
        score: float | None = None,
        prediction: Sequence[float] | None = None,
        missing: Sequence[str] = (),
        stale: Sequence[str] = (),
        as_of: Mapping[str, datetime] | None = None,
    ) -> PredictionRecord:
        """What the log keeps of one instance."""
        return PredictionRecord(
            request_id=row_id(context, len(request.instances), index),
            event_time=context.event_time,
            route=context.route,
            rollout=context.rollout,
            digest=self.bundle.digest,
            score=score,
            prediction=prediction,
            status=status,
            latency_ms=milliseconds,
            features=self._inputs.logged(features),
            missing=missing,
            stale=stale,
            keys=self._inputs.keys(request.instances[index]) if request.online else {},
            as_of=as_of or {},
            contents=self._inputs.contents(features) if status < 400 else {},
        )

    def refuse(self, headers: Mapping[str, str], error: BadRequest, start: float) -> None:
        """Count and log a request that broke its contract."""
        ms = _milliseconds_since(start)
        self.meters.count_refusal(headers, error, ms)
        self._record_unread(headers, error.rows, error.status, ms)
        if self.events is not None:
            self.events.report_refusal(error.part, str(error), headers)

    def fail(self, headers: Mapping[str, str], error: Exception, start: float) -> None:
        """Count and log a request that failed before there were instances, or after they were logged."""
        if error is self._failure:
            return
        self._failure = error
        route = headers.get("x-sluice-route", "stable")
        ms = _milliseconds_since(start)
        self.meters.count_failures(route if route in ROUTES else "stable", "model", 1, ms, datetime.now(UTC))
        self._record_unread(headers, 1, 500, ms)
        self.failed += 1
        if self.events is not None:
            self.events.report_failure("model", headers.get("x-request-id", "")[:MAX_TEXT], "", error)

    def _record_unread(self, headers: Mapping[str, str], n: int, status: int, milliseconds: float) -> None:
        if (context := context_of_any(headers)) and (log := self._log_of(context, n)):
            log.write(unread_records(context, self.bundle.digest, n, status, milliseconds))

    def report(self, error: Exception) -> None:
        """Say in one line what failed, where there is no log of events that has it with more."""
        if self.events is None:
            self._error_lines(error)
        elif error is not self._failure:
            self.events.report_failure("server", "", "", error)

    def describe(self) -> dict[str, Any]:
        """What this process serves and has done, for ``GET /-/sluice``."""
        manifest = self.manifest
        return {
            "task": self.bundle.manifest.task,
            "digest": self.bundle.digest,
            "variant": self.bundle.manifest.variant,
            "role": self.role,
            "threshold": self.bundle.manifest.threshold,
            "pid": os.getpid(),
            "answered": self.answered,
            "failed": self.failed,
            "log_lines_dropped": self.log.dropped if self.log else 0,
            "reads_features_online": self.reader is not None and manifest.service is not None,
            "entity_keys": list(manifest.entity_keys),
            "request_inputs": {feature.name: feature.kind.description for feature in manifest.request_inputs},
            "nullable": list(manifest.nullable),
            "features": {feature.name: feature.kind.description for feature in manifest.features},
        }


def _logged(predictions: list[Any]) -> tuple[list[float | None], list[Sequence[float] | None]]:
    """For each row its score, and its prediction where that is several numbers."""
    nothing: list[Any] = [None] * len(predictions)
    return (nothing, predictions) if isinstance(predictions[0], list) else (predictions, nothing)


def _milliseconds_since(start: float) -> float:
    """Rounded once, so that the log and the metrics put it into the same bin."""
    return round((time.perf_counter() - start) * 1000, 4)


def load(options: argparse.Namespace) -> Predictor:
    """
    The predictor of a command line, verified and warm.

    Raises:
        SluiceError: the bundle is not what its digest says, or serves another task.
    """
    bundle = load_bundle(options.bundle, options.digest)
    reader: FeatureReader | None = None
    if bundle.manifest.features.service is None:  # there is nothing to read, whatever the command line names
        reader = RequestReader(bundle.manifest.features)
    elif options.store is not None:
        from sluice.features.reader import OnlineReader

        reader = OnlineReader(options.store, bundle.manifest.features)
    elif options.feature_repo is not None:
        from sluice.features.cluster import cluster_reader

        reader = cluster_reader(options.feature_repo, os.environ, bundle.manifest.features)
    from sluice_serving.meters import Meters
    from sluice_serving.shipping import open_log

    log = open_log(options, bundle.manifest.task, bundle.digest)
    meters = Meters(bundle, options.role if options.seldon_names else None)
    return Predictor(bundle, meters, reader, log, options.role)


def serve(predictor: Predictor, options: argparse.Namespace) -> None:
    """Answer requests until SIGTERM."""
    # kserve parses sys.argv when it is imported and would take our --log for an abbreviation of its own option.
    sys.argv = sys.argv[:1]
    from prometheus_client import REGISTRY

    from sluice.http_server.server import listen
    from sluice_serving import tracing
    from sluice_serving.events import EventLog
    from sluice_serving.server import SluiceModel, StrictModelServer

    predictor.meters.register(REGISTRY)
    if predictor.manifest.service is not None and options.feature_repo is not None:
        from sluice.features.freshness import FeatureFreshness
        from sluice.features.reader import OnlineReader

        if isinstance(predictor.reader, OnlineReader):
            REGISTRY.register(FeatureFreshness(predictor.reader.feast, predictor.reader.views))
    end_traces = tracing.start(os.environ, predictor.identity)
    listener = listen(options.host, options.http_port)
    server = StrictModelServer(listener)
    host, port = listener.getsockname()[:2]
    sys.stdout.write(f"ready http://{host}:{port}\n")
    sys.stdout.flush()
    if options.json_log:  # after kserve has set its own logging up
        predictor.events = EventLog(predictor.identity, options.release)
        predictor.events.say("ready", address=f"http://{host}:{port}")
    server.start([SluiceModel(options.model_name, predictor)])
    end_traces()
    if predictor.events is not None:
        predictor.events.say("ended", answered=predictor.answered, failed=predictor.failed)


def main(argv: list[str] | None = None) -> int:
    """Entry point; 2 for anything that is wrong with the input."""
    options = arguments(sys.argv[1:] if argv is None else argv)
    if options.end_with_stdin:
        end_with_stdin()
    try:
        predictor = load(options)
    except SluiceError as error:
        sys.stderr.write(f"predictor: {error}\n")
        return error.exit_code
    try:
        serve(predictor, options)
    except OSError as error:
        sys.stderr.write(f"predictor: port {options.http_port}: {error.strerror}; choose another --http_port\n")
        return 2
    finally:
        if predictor.log is not None:
            predictor.log.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
