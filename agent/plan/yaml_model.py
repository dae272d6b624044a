# SPDX-License-Identifier: Apache-2.0
"""Data of a YAML document as a pydantic model; what is wrong becomes problems at their places."""

import difflib
from typing import TypeVar, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from agent.plan.yaml_document import Document, Path, Plain

Model = TypeVar("Model", bound=BaseModel)

_EXPECTED = {
    "tuple_type": "a list",
    "frozen_set_type": "a list",
    "model_type": "a mapping",
    "too_short": "a list with an entry",
    "string_type": "text (quotes help)",
    "string_too_short": "text that is not empty",
    "int_type": "a whole number",
    "bool_type": "true or false",
}


def validated(document: Document, data: dict[str, Plain], model: type[Model]) -> Model | None:
    """The model with these data; None if problems were reported to `document`."""
    try:
        return TypeAdapter(model).validate_python(data)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            path = _in_file(data, detail["loc"])
            if path not in document.unreadable:
                at_key = detail["type"] == "extra_forbidden"
                document.report(path, message(detail, model), at_key=at_key)
        return None


def message(detail: ErrorDetails, model: type[BaseModel]) -> str:
    """What is wrong with one value, in words of the file."""
    kind = detail["type"]
    if kind == "extra_forbidden":
        return _unknown_key(detail["loc"], model)
    if kind == "missing":
        at = detail["loc"][-1]
        return f"entry {at + 1} of the list is missing" if isinstance(at, int) else "is missing"
    if kind == "value_error":
        return str(detail["ctx"]["error"])
    expected = detail["msg"].removeprefix("Input should ").removeprefix("be ")
    return f"must be {_EXPECTED.get(kind, expected)}, not {kind_of(detail['input'])}"


def kind_of(value: object) -> str:
    """A value as a message names it."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list" if value else "an empty list"
    return "nothing" if value is None else repr(value)


def _in_file(data: Plain, loc: Path) -> Path:
    """pydantic's location without parts that are not in the file (tags of unions, members of sets)."""
    path: Path = ()
    for part in loc:
        if isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        elif isinstance(data, dict) and isinstance(part, str):
            data = data.get(part)
        elif isinstance(part, str) or path:
            continue
        path = (*path, part)
    return path


def _unknown_key(loc: Path, model: type[BaseModel]) -> str:
    for part in loc[:-1]:
        inner = _model_of(model, part) if isinstance(part, str) else model
        model = model if inner is None else inner
    known = [field.alias or name for name, field in model.model_fields.items()]
    close = difflib.get_close_matches(str(loc[-1]), known, n=1, cutoff=0.5)
    hint = f"did you mean `{close[0]}`?" if close else f"known: {', '.join(known)}"
    return f"unknown key, {hint}"


def _model_of(model: type[BaseModel], name: str) -> type[BaseModel] | None:
    """The model of a field, or of the entries of a field that is a list."""
    field = model.model_fields.get(name)
    candidates = [] if field is None else [field.annotation, *get_args(field.annotation)]
    return next((one for one in candidates if isinstance(one, type) and issubclass(one, BaseModel)), None)
