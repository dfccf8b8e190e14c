# SPDX-License-Identifier: MIT
"""
A Varlink client for tests, and a reader of interface descriptions that checks answers against them.
It shares no code with the server.
"""

import contextlib
import json
import re
import socket

TYPES = {"bool": bool, "int": int, "string": str}


class Error(Exception):
    """The answer is an error."""

    def __init__(self, name, parameters):
        super().__init__(name, parameters)
        self.name = name
        self.parameters = parameters


class Client:
    """A connection: client.call("interface.Method", name=value) is the answer's parameters."""

    def __init__(self, path, timeout=20):
        self.data = b""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(timeout)
        try:
            self.sock.connect(path)
        except BaseException:
            self.sock.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.close()

    def close(self):
        self.sock.close()

    def send(self, method, parameters, more=False):
        message = {"method": method, "parameters": parameters, "more": more}
        with contextlib.suppress(BrokenPipeError):  # turned away: the reason is there to be read
            self.sock.sendall(json.dumps(message).encode() + b"\0")

    def message(self):
        while b"\0" not in self.data:
            part = self.sock.recv(65536)
            if not part:
                raise ConnectionResetError("the server has closed the connection")
            self.data += part
        first, _, self.data = self.data.partition(b"\0")
        answer = json.loads(first)
        if "error" in answer:
            raise Error(answer["error"], answer.get("parameters"))
        return answer

    def answer(self):
        return self.message()["parameters"]

    def calls(self, method, parameters, more=False):
        """All answers to a call."""
        self.send(method, parameters, more)
        while True:
            answer = self.message()
            yield answer["parameters"]
            if not answer.get("continues"):
                return
            assert more, "several answers were not asked for"

    def call(self, method, **parameters):
        (answer,) = self.calls(method, parameters)
        return answer


class Interface:
    """A description as objects: types are str, ("?", type), ["enum", ...] or {member: type}."""

    def __init__(self, text):
        self.tokens = re.findall(r"\[\]|->|[A-Za-z_][\w.]*|\S", re.sub(r"#.*", "", text))
        self.types, self.methods, self.errors = {}, {}, {}
        assert self.take() == "interface"
        self.name = self.take()
        while self.tokens:
            what, name = self.take(), self.take()
            if what == "type":
                self.types[name] = self.read_struct()
            elif what == "error":
                self.errors[name] = self.read_struct()
            else:
                assert what == "method", what
                parameters = self.read_struct()
                assert self.take() == "->"
                self.methods[name] = (parameters, self.read_struct())

    def take(self):
        return self.tokens.pop(0)

    def read_type(self):
        token = self.take()
        if token in ("?", "[]"):
            return (token, self.read_type())
        if token == "(":
            self.tokens.insert(0, token)
            return self.read_struct()
        return token

    def read_struct(self):
        """Members, or the words of an enum as a list."""
        assert self.take() == "("
        members, words = {}, []
        while (token := self.take()) != ")":
            if token == ",":
                continue
            if self.tokens[0] == ":":
                self.take()
                members[token] = self.read_type()
            else:
                words.append(token)
        return words or members

    def check(self, value, kind, where):
        if isinstance(kind, tuple) and kind[0] == "?":
            self.check(value, kind[1], where)
        elif isinstance(kind, tuple):
            assert isinstance(value, list), where
            for entry in value:
                self.check(entry, kind[1], where)
        elif isinstance(kind, list):
            assert value in kind, f"{where} is {value}"
        elif isinstance(kind, dict):
            assert isinstance(value, dict), where
            for name, member in kind.items():
                if name in value:
                    self.check(value[name], member, f"{where}.{name}")
                else:
                    assert isinstance(member, tuple) and member[0] == "?", f"no {where}.{name}"
            assert set(value) <= set(kind), f"{where}: {set(value) - set(kind)} is not described"
        elif kind in TYPES:
            assert type(value) is TYPES[kind], f"{where} is {value!r}, not {kind}"
        else:
            self.check(value, self.types[kind], where)

    def check_answer(self, method, answer):
        self.check(answer, self.methods[method][1], method)

    def check_error(self, error, parameters):
        self.check(parameters, self.errors[error], error)
        assert len(parameters["reason"]) > 5
