"""The calls of the openai package against a server; the first argument is its address, the second its key."""

import json
import sys
import time

import openai

base, key = sys.argv[1:]
client = openai.OpenAI(base_url=f"{base}/v1", api_key=key, max_retries=0)
ask = [{"role": "user", "content": "Hello"}]

models = client.models.list().data
assert len(models) == 1 and client.models.retrieve(models[0].id).id == models[0].id
name = models[0].id

chat = client.chat.completions.create(model=name, messages=ask, max_tokens=8, temperature=0)
text = chat.choices[0].message.content
assert text and chat.usage.total_tokens == chat.usage.prompt_tokens + chat.usage.completion_tokens

stream = client.chat.completions.create(
    model=name, messages=ask, max_tokens=8, temperature=0, stream=True, stream_options={"include_usage": True}
)
chunks = list(stream)
assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text
assert chunks[-1].usage.completion_tokens == chat.usage.completion_tokens

many = client.chat.completions.create(
    model=name, messages=ask, max_tokens=4, n=3, temperature=1.5, seed=1, logprobs=True, top_logprobs=3, stop=["zz"],
    presence_penalty=0.1, frequency_penalty=0.1, logit_bias={"5": -100}, user="u", top_p=0.9,
    extra_body={"top_k": 20, "min_p": 0.01, "repetition_penalty": 1.1},
)
assert [choice.index for choice in many.choices] == [0, 1, 2]
assert all(len(token.top_logprobs) == 3 for token in many.choices[0].logprobs.content)

completion = client.completions.create(model=name, prompt=["One", "Two"], max_tokens=3, logprobs=2)
assert len(completion.choices) == 2 and len(completion.choices[0].logprobs.tokens) <= 3

schema = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 10}, "n": {"type": "integer", "minimum": 1, "maximum": 9}},
    "required": ["city", "n"],
    "additionalProperties": False,
}
format = {"type": "json_schema", "json_schema": {"name": "place", "strict": True, "schema": schema}}
answer = client.chat.completions.create(model=name, messages=ask, response_format=format, max_tokens=200)
assert answer.choices[0].finish_reason == "stop", answer

weather = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "days": {"type": "integer", "minimum": 1, "maximum": 7}},
    "required": ["city", "days"],
}
tools = [
    {"type": "function", "function": {"name": "get_weather", "description": "The weather", "parameters": weather}},
    {"type": "function", "function": {"name": "now"}},
]
named = {"type": "function", "function": {"name": "get_weather"}}
called = client.chat.completions.create(model=name, messages=ask, tools=tools, tool_choice=named, max_tokens=300)
call = called.choices[0].message.tool_calls[0]
assert called.choices[0].finish_reason == "tool_calls" and call.function.name == "get_weather" and call.type == "function"
arguments = json.loads(call.function.arguments)
assert len(arguments["city"]) <= 12 and 1 <= arguments["days"] <= 7
talk = [*ask, called.choices[0].message, {"role": "tool", "tool_call_id": call.id, "content": "sunny"}]
after = client.chat.completions.create(model=name, messages=talk, tools=tools, max_tokens=5)
assert after.choices[0].finish_reason in ("stop", "length") or after.choices[0].message.tool_calls
with client.chat.completions.stream(
    model=name, messages=ask, tools=[{**tools[0], "function": {**tools[0]["function"], "strict": True}}],
    tool_choice="required", parallel_tool_calls=False, max_tokens=300,
) as stream:
    for _ in stream:
        pass
    final = stream.get_final_completion().choices[0]
assert final.finish_reason == "tool_calls" and final.message.tool_calls[0].function.parsed_arguments["days"] >= 1
assert client.chat.completions.create(model=name, messages=ask, tools=tools, tool_choice="none", max_tokens=3).choices[0].message.content

for wrong, error in [
    ({"messages": []}, openai.BadRequestError),
    ({"messages": ask, "temperature": -1}, openai.BadRequestError),
    ({"messages": ask, "extra_body": {"nonsense": 1}}, openai.BadRequestError),
    ({"messages": ask, "tools": [{"type": "function", "function": {"name": "a b"}}]}, openai.BadRequestError),
]:
    try:
        client.chat.completions.create(model=name, **wrong)
        raise SystemExit(f"{wrong} was accepted")
    except error as err:
        assert err.code and err.body["message"], err
try:
    openai.OpenAI(base_url=f"{base}/v1", api_key="wrong", max_retries=0).models.list()
    raise SystemExit("a wrong key was accepted")
except openai.AuthenticationError as err:
    assert err.code == "invalid_api_key"
try:
    client.embeddings.create(model=name, input="a")
    raise SystemExit("embeddings were accepted")
except openai.BadRequestError:
    pass

endless = {"temperature": 5, "extra_body": {"top_k": 0}, "logit_bias": {"2": -100}, "n": 32}
try:
    client.with_options(timeout=0.5).chat.completions.create(model=name, messages=ask, **endless)
    raise SystemExit("no time-out")
except openai.APITimeoutError:
    pass
with client.chat.completions.create(model=name, messages=ask, stream=True, **endless) as stream:
    for _ in zip(range(40), stream):
        pass
for _ in range(100):
    health = client.get("/../health", cast_to=object)
    if health["slots"]["busy"] == 0:
        break
    time.sleep(0.05)
assert health["slots"]["busy"] == 0, health
print("ok")
