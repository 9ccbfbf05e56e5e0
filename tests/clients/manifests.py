"""Reads the deployment files of examples/deploy as their own tools would, and prints them as one JSON object.

Compose: against the published schema of the compose specification. Kubernetes: against the schemas of its API, strictly.
"""

import importlib.util
import json
import pathlib
import sys

import jsonschema
import kubernetes_validate
import yaml

top = pathlib.Path(sys.argv[1])


def compose_file(path):
    document = yaml.safe_load(path.read_text())
    # The package for its schema alone; its program is of another time.
    folder = pathlib.Path(importlib.util.find_spec("compose").submodule_search_locations[0])
    schema = json.loads((folder / "config/compose_spec.json").read_text())
    # The name of a project came into the specification later.
    jsonschema.validate({key: value for key, value in document.items() if key != "name"}, schema)
    return document


def kubernetes(path):
    documents = list(yaml.safe_load_all(path.read_text()))
    for document in documents:
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
    return documents


print(json.dumps({
    "compose": compose_file(top / "examples/deploy/compose/docker-compose.yml"),
    "kubernetes": kubernetes(top / "examples/deploy/kubernetes/claimd.yaml"),
    "alerts": yaml.safe_load((top / "examples/deploy/observability/alerts.yml").read_text()),
}))
