"""Offline validation of a crate; the validator's Python runs it with the crate and a JSON-LD context as arguments.

The validator fetches the context that a crate names; here it is given the file instead, and nothing else is fetched.
"""

import json
import sys
from pathlib import Path

import requests
from rocrate_validator.services import validate

crate, file = sys.argv[1:]


def respond(adapter, request, **kwargs):
    if request.url != "https://w3id.org/ro/crate/1.1/context":
        raise requests.ConnectionError(f"{request.url}: nothing is fetched in a test")
    response = requests.Response()
    response.status_code, response.url, response.request = 200, request.url, request
    response.headers["Content-Type"] = "application/ld+json"
    response._content = Path(file).read_bytes()
    return response


requests.adapters.HTTPAdapter.send = respond
settings = {
    "rocrate_uri": crate,
    "profile_identifier": "ro-crate-1.1",
    "requirement_severity": "RECOMMENDED",
    "no_cache": True,
}
result = validate(settings)
found = [f"{issue.severity.name}: {issue.check.identifier} {issue.message}" for issue in result.get_issues()]
sys.stdout.write(json.dumps(found))
