"""Reads an OTLP/HTTP JSON message with OpenTelemetry's own definitions, which take no
unknown member, and writes its spans: [{name, kind, trace, span, parent, failed, ms}]."""

import base64
import json
import sys

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


def ids_to_base64(node):
    """OTLP has ids in hex where protobuf's JSON has base64."""
    if isinstance(node, list):
        return [ids_to_base64(item) for item in node]
    if not isinstance(node, dict):
        return node
    ids = ("traceId", "spanId", "parentSpanId")
    return {
        key: base64.b64encode(bytes.fromhex(value)).decode() if key in ids else ids_to_base64(value)
        for key, value in node.items()
    }


def main():
    message = json_format.ParseDict(ids_to_base64(json.load(sys.stdin)), ExportTraceServiceRequest())
    spans = []
    for resource in message.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                spans.append(
                    {
                        "name": span.name,
                        "kind": span.kind,
                        "trace": span.trace_id.hex(),
                        "span": span.span_id.hex(),
                        "parent": span.parent_span_id.hex(),
                        "failed": span.status.code == 2,
                        "ms": (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6,
                    }
                )
    json.dump(spans, sys.stdout)


main()
