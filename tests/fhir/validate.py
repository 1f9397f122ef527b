"""Checks FHIR R4 files with fhir.resources (types, required fields) and HL7's JSON schema (codes, keys).

    python validate.py [--schema fhir.schema.r4.json] FILE...

Prints what is wrong and leaves with 1, with 0 where nothing is.
"""

import argparse
import json
import pathlib
import sys

import jsonschema
from fhir.resources.R4B import get_fhir_model_class


def resources(resource):
    """The resource, then those of its entries."""
    yield resource
    for entry in resource.get("entry", []):
        if "resource" in entry:
            yield entry["resource"]


def without_resources(resource):
    """A bundle whose entries are judged by themselves: the schema of all kinds at once is slow and mute."""
    entries = [{k: v for k, v in entry.items() if k != "resource"} for entry in resource["entry"]]
    return resource | {"entry": entries}


def problems(text, schema):
    resource = json.loads(text)
    try:
        get_fhir_model_class(resource["resourceType"]).model_validate_json(text)
    except Exception as error:
        yield f"fhir.resources: {error}"
    if schema is None:
        return
    for each in resources(resource):
        kind = each["resourceType"]
        part = {"$schema": schema["$schema"], "definitions": schema["definitions"]}
        part["$ref"] = f"#/definitions/{kind}"
        shown = without_resources(each) if "entry" in each else each
        for error in jsonschema.Draft6Validator(part).iter_errors(shown):
            yield f"schema: {kind} {'/'.join(map(str, error.absolute_path))}: {error.message}"


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--schema", type=pathlib.Path)
    arguments.add_argument("files", nargs="+", type=pathlib.Path)
    arguments = arguments.parse_args()
    schema = arguments.schema and json.loads(arguments.schema.read_text())
    wrong = 0
    for file in arguments.files:
        for problem in problems(file.read_text(), schema):
            print(f"{file}: {problem}")
            wrong += 1
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
