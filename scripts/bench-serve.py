#!/usr/bin/env python3
"""Measures `tulu-quant serve` against llama-server: answered tokens per second for several clients at once.

Usage: scripts/bench-serve.py TULU_QUANT LLAMA_SERVER MODEL.gguf [THREADS [CASE...]]

Both servers run in the same session, one is measured while the other is idle, and the order changes from case to case. Every
client sends the same number of requests one after the other, with prompts of its own, as text to both (/v1/completions), greedy,
without an end before max_tokens. A case is CLIENTS or CLIENTSs; with s, all prompts begin with the same long text.
"""

import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time

TOKENS = 32
# About 430 tokens of Llama 2.
SYSTEM = "You are a helpful assistant of a library. Answer briefly, name the shelf, and never invent a book. " * 19


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def post(port, body):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    connection.request("POST", "/v1/completions", json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    answer = json.loads(response.read())
    assert response.status == 200, answer
    return answer


def wait(port, process):
    while True:
        assert process.poll() is None, "a server ended"
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.2)


def measure(port, clients, rounds, shared, run):
    """Returns the tokens per second of all answers, and the mean time of a request."""
    times, errors = [], []

    def client(number):
        try:
            for turn in range(rounds):
                begin = SYSTEM + f"[{run}]" if shared else f"[{run} {number} {turn}]"
                question = f"What do you know about the number {number * 100 + turn}, and where can I read more about it?"
                text = f"<|system|>\n{begin}\n<|user|>\n{question}\n<|assistant|>\n"
                began = time.monotonic()
                body = {"prompt": text, "max_tokens": TOKENS, "temperature": 0, "logit_bias": {"2": -100}}
                answer = post(port, body)
                assert answer["usage"]["completion_tokens"] == TOKENS, answer
                times.append(time.monotonic() - began)
        except Exception as err:  # reported by the main thread
            errors.append(err)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    began = time.monotonic()
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert not errors, errors
    return clients * rounds * TOKENS / (time.monotonic() - began), sum(times) / len(times)


def main():
    ours, theirs, model = sys.argv[1:4]
    threads = sys.argv[4] if len(sys.argv) > 4 else str(os.cpu_count())
    cases = sys.argv[5:] or ["1", "4", "16", "4s", "16s"]
    ports = [free_port(), free_port()]
    commands = [
        [ours, "serve", model, "-t", threads, "-np", "16", "-c", "1024", "--kv-tokens", "16384", "--port", str(ports[0]), "--no-access-log"],
        [theirs, "-m", model, "-t", threads, "-np", "16", "-c", "16384", "--port", str(ports[1]), "--no-webui"],
    ]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    servers = [subprocess.Popen(command, **quiet) for command in commands]
    try:
        for port, server in zip(ports, servers):
            wait(port, server)
            post(port, {"prompt": "Hello", "max_tokens": 4})
        for run, case in enumerate(cases):
            clients, shared = int(case.rstrip("s")), case.endswith("s")
            rounds = 2 if clients == 1 else 1
            speeds = [None, None]
            for which in ([0, 1], [1, 0])[run % 2]:
                speeds[which] = measure(ports[which], clients, rounds, shared, f"run {run}")
            (our, our_time), (their, their_time) = speeds
            what = f"{clients} clients" + (" with a shared beginning" if shared else "")
            print(f"{what}: {our:.1f} and {their:.1f} tokens/s, {our / their:.2f}x; mean time {our_time:.1f} and {their_time:.1f} s", flush=True)
    finally:
        for server in servers:
            server.terminate()


main()
