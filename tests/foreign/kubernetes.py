"""Validates manifests by the schemas of Kubernetes. Reads a list of documents from standard input and writes the faults."""

import json
import sys

import kubernetes_validate


def main():
    faults = []
    for document in json.load(sys.stdin):
        try:
            kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
        except kubernetes_validate.ValidationError as error:
            faults.append(f"{document.get('kind')}: {error.message}")
    json.dump(faults, sys.stdout)


main()
