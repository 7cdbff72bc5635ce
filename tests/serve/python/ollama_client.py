"""The calls of the ollama package against a server; the first argument is its address, the second its key."""

import sys

import ollama

base, key = sys.argv[1:]
client = ollama.Client(host=base, headers={"Authorization": f"Bearer {key}"})
name = client.list().models[0].model
assert client.show(name).details.family == "llama" and client.ps().models[0].model == name

ask = [{"role": "user", "content": "Hello"}]
options = {"temperature": 0, "num_predict": 8}
chat = client.chat(name, messages=ask, options=options)
assert chat.message.content and chat.done and chat.eval_count <= 8
parts = list(client.chat(name, messages=ask, options=options, stream=True))
assert "".join(part.message.content for part in parts) == chat.message.content and parts[-1].done_reason in ("stop", "length")
generated = client.generate(name, prompt="Hello", options=options)
assert generated.response == chat.message.content
assert "".join(part.response for part in client.generate(name, prompt="Hello", options=options, stream=True)) == generated.response
schema = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 9}}, "required": ["a"]}
assert "{" in client.chat(name, messages=ask, format=schema).message.content


def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
      a: the first
      b: the second
    """
    return a + b


called = client.chat(name, messages=ask, tools=[add], options=options)
assert called.done and called.message.role == "assistant"
calls = [{"function": {"name": "add", "arguments": {"a": 1, "b": 2}}}]
talk = [*ask, {"role": "assistant", "content": "", "tool_calls": calls}, {"role": "tool", "tool_name": "add", "content": "3"}]
parts = list(client.chat(name, messages=talk, tools=[add], options=options, stream=True))
assert parts[-1].done and parts[-1].prompt_eval_count > called.prompt_eval_count
assert "tools" in client.show(name).capabilities
try:
    client.chat(name, messages=ask, options={"mirostat": 2})
    raise SystemExit("mirostat was accepted")
except ollama.ResponseError as err:
    assert err.status_code == 400 and "mirostat" in err.error
print("ok")
