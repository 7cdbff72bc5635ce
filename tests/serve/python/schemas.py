"""Answers under 20 schemas, ten each, must be valid for the jsonschema package. Arguments: address, key."""

import json
import sys

import jsonschema
import openai

base, key = sys.argv[1:]
client = openai.OpenAI(base_url=f"{base}/v1", api_key=key, max_retries=0)
text = {"type": "string", "maxLength": 8}


def closed(properties, **more):
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False, **more}


SCHEMAS = [
    closed({"name": text, "age": {"type": "integer", "minimum": 0, "maximum": 120}}),
    closed({"p": {"type": "number", "minimum": 0, "maximum": 1}, "q": {"type": "number", "exclusiveMinimum": -2.5, "maximum": 7}}),
    {"enum": ["red", "green", 3, None, {"a": [1]}]},
    {"const": {"x": "\"quoted\" \\ \n é"}},
    {"type": "array", "items": {"type": "integer", "minimum": -5, "maximum": 5}, "minItems": 2, "maxItems": 4},
    {"type": "array", "prefixItems": [{"type": "boolean"}, text], "items": False, "minItems": 2},
    {"anyOf": [{"type": "null"}, {"type": "string", "minLength": 2, "maxLength": 5}, closed({"a": {"type": "boolean"}})]},
    {"oneOf": [closed({"kind": {"const": "a"}, "x": text}), closed({"kind": {"const": "b"}, "y": {"type": "null"}})]},
    {"allOf": [{"type": "object", "properties": {"a": text}, "required": ["a"]}, {"properties": {"b": {"type": "boolean"}}, "required": ["b"]}]},
    {"$defs": {"node": closed({"value": {"type": "integer", "minimum": 0, "maximum": 9}, "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/node"}]}})}, "$ref": "#/$defs/node"},
    {"type": "string", "pattern": "^(\\+\\d{2}|0)[1-9][0-9]{3,5}(-[a-z]+)?$", "description": "a number"},
    {"type": "string", "pattern": "^[^\\s\"]{1,6}$"},
    {"type": "object", "properties": {"a": text, "b": {"type": "integer", "minimum": 10, "maximum": 99}, "c": {"type": "boolean"}}},
    {"type": "object", "additionalProperties": {"type": "integer", "minimum": 1, "maximum": 3}, "maxProperties": 3},
    closed({"date": {"type": "string", "format": "date"}, "id": {"type": "string", "format": "uuid"}, "at": {"type": "string", "format": "date-time"}}),
    {"type": ["string", "null", "boolean"], "maxLength": 4},
    closed({"list": {"type": "array", "items": closed({"n": {"type": "integer", "minimum": 1000, "maximum": 123456}}), "minItems": 1, "maxItems": 2}}),
    {"type": "integer", "exclusiveMinimum": 99, "exclusiveMaximum": 1001},
    closed({"a": {"type": "array", "items": {"enum": ["x", "y"]}, "maxItems": 3}, "b": {"$ref": "#/$defs/t"}}, **{"$defs": {"t": text}}),
    {"type": "object", "properties": {"known": {"type": "null"}}, "required": ["known", "other"], "additionalProperties": {"type": "boolean"}},
]
assert len(SCHEMAS) == 20
valid = 0
for schema in SCHEMAS:
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())
    for seed in range(10):
        format = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
        answer = client.chat.completions.create(
            model="any", messages=[{"role": "user", "content": f"What is {seed}?"}], response_format=format, seed=seed,
            temperature=[0, 0.7, 1.5, 4][seed % 4], max_tokens=900,
        )
        choice = answer.choices[0]
        assert choice.finish_reason == "stop", (schema, choice)
        validator.validate(json.loads(choice.message.content))
        valid += 1
print(f"{valid} of 200 valid")
assert valid == 200
print("ok")
