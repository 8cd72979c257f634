# SPDX-License-Identifier: Apache-2.0
"""Two processes with the same system prompt: the second takes its K and V from the first, through the daemon.

    python3 shared_prompt.py [--socket PATH]
"""
import argparse
import subprocess
import sys

import toy

import kvclient as kv

SYSTEM = "You are a careful assistant of a small library. Answer in one sentence, and say when you do not know. " * 4
QUESTIONS = ["Who wrote the oldest book here?", "How many books may I borrow at once?"]


def work(socket: str, question: str) -> None:
    """What an inference worker does: its own process, its own client."""
    with kv.Client(socket) as client:
        session = toy.Session(client.space("toy-shared", toy.schema()))
        session.feed(list((SYSTEM + question).encode()))
        prompt = len(session.tokens)
        answer = session.say(8)
        print(f"prompt {prompt} tokens: {session.cached} from the cache, {prompt - session.cached} computed")
        print(f"  {question}\n  {answer}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--socket", help="of the daemon (default: $KVPAGED_SOCKET, /run/kvpaged/kvpaged.sock)")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments.socket, arguments.worker)
        return
    for question in QUESTIONS:
        command = [sys.executable, __file__, "--worker", question]
        subprocess.run(command + (["--socket", arguments.socket] if arguments.socket else []), check=True)


if __name__ == "__main__":
    main()
