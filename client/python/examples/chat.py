# SPDX-License-Identifier: Apache-2.0
"""A chat that goes on after its worker was killed: the text is with the front end, K and V are with the daemon.

    python3 chat.py [--socket PATH]                    # three lines; the worker is killed before the third
    python3 chat.py --interactive                      # your lines; "kill" kills the worker, an empty line ends

The worker is a process that gets the whole conversation as text with each line and keeps nothing that matters.
"""
import argparse
import json
import subprocess
import sys
from typing import Any, Iterator, Optional

import toy

import kvclient as kv

LINES = ["Good morning. I would like to know how bread is made, from the field to the oven, step by step.",
         "And what is done with the bran?", "kill", "One more thing: how long does it keep?"]


def work(socket: Optional[str]) -> None:
    """A line of JSON in, a line of JSON out."""
    with kv.Client(socket) as client:
        space = client.space("toy-chat", toy.schema())
        for line in sys.stdin:
            session = toy.Session(space)
            session.feed(list(json.loads(line).encode()))
            prompt = len(session.tokens)
            print(json.dumps({"answer": session.say(8), "tokens": prompt, "cached": session.cached}), flush=True)


class Worker:
    def __init__(self, socket: Optional[str]) -> None:
        self._command = [sys.executable, __file__, "--worker"] + (["--socket", socket] if socket else [])
        self._process: Optional[subprocess.Popen[str]] = None

    def answer(self, conversation: str) -> Any:
        """Starts the worker where there is none."""
        if self._process is None:
            self._process = subprocess.Popen(self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(conversation) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None


def typed() -> Iterator[str]:
    while True:
        line = input("> ")
        if not line:
            return
        yield line


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--socket", help="of the daemon (default: $KVPAGED_SOCKET, /run/kvpaged/kvpaged.sock)")
    parser.add_argument("--interactive", action="store_true", help="read lines from the terminal")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments.socket)
        return
    worker = Worker(arguments.socket)
    conversation = ""
    for line in typed() if arguments.interactive else LINES:
        if line == "kill":
            worker.kill()
            print("(the worker is dead; the next line starts another)")
            continue
        conversation += f"User: {line}\nModel: "
        said = worker.answer(conversation)
        conversation += said["answer"] + "\n"
        print(f"{line}\n  {said['answer']}\n  [{said['tokens']} tokens, {said['cached']} from the cache]")
    worker.kill()


if __name__ == "__main__":
    main()
