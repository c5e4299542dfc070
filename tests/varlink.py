# SPDX-License-Identifier: Apache-2.0
"""A client of the control socket, written from docs/control.md alone. Every reply is checked against the interface that the
server describes."""
import array
import json
import re
import socket
import struct

MESSAGE_MAX = 8 << 20


class Error(Exception):
    """An error reply."""
    def __init__(self, name, parameters):
        super().__init__(f"{name} {json.dumps(parameters)}")
        self.name, self.parameters = name, parameters
        self.message = parameters.get("message", "")


class Closed(Exception):
    """The server has closed the connection."""


class Interface:
    """The text of an interface, parsed: types, methods (parameters, reply) and errors."""
    def __init__(self, text):
        text = re.sub(r"#[^\n]*", "", text)
        self.tokens = re.findall(r"->|\[\]|\[string\]|[A-Za-z][A-Za-z0-9_.]*|[():,?]", text)
        assert "".join(self.tokens) == re.sub(r"\s", "", text), "an unknown character"
        self.at, self.types, self.methods, self.errors = 0, {}, {}, {}
        assert self.take() == "interface"
        self.name = self.take()
        while self.at < len(self.tokens):
            kind, name = self.take(), self.take()
            assert name[0].isupper(), name
            if kind == "type":
                self.types[name] = self.type()
            elif kind == "error":
                self.errors[name] = self.type()
            else:
                assert kind == "method", kind
                parameters = self.type()
                assert self.take() == "->"
                self.methods[name] = (parameters, self.type())

    def take(self):
        self.at += 1
        return self.tokens[self.at - 1]

    def type(self):
        token = self.take()
        if token == "?":
            return ("?", self.type())
        if token in ("[]", "[string]"):
            return (token, self.type())
        if token != "(":
            return ("name", token)
        members, names = {}, []
        while (token := self.take()) != ")":
            if token == ",":
                continue
            if self.tokens[self.at] == ":":
                self.take()
                members[token] = self.type()
            else:
                names.append(token)
        return ("enum", names) if names else ("struct", members)

    def check(self, t, value, where):
        """Raises AssertionError unless the value is of the type."""
        kind, of = t
        if kind == "?":
            if value is not None:
                self.check(of, value, where)
        elif kind == "[]":
            assert isinstance(value, list), where
            for i, v in enumerate(value):
                self.check(of, v, f"{where}[{i}]")
        elif kind == "[string]":
            assert isinstance(value, dict), where
            for k, v in value.items():
                self.check(of, v, f"{where}[{k}]")
        elif kind == "enum":
            assert value in of, f"{where}: {value}"
        elif kind == "struct":
            assert isinstance(value, dict), where
            for name, member in of.items():
                assert name in value or member[0] == "?", f"{where}.{name} is missing"
                self.check(member, value.get(name), f"{where}.{name}")
            assert set(value) <= set(of), f"{where}: {set(value) - set(of)} are not declared"
        elif of in ("bool", "int", "float", "string", "object"):
            python = {"bool": bool, "int": int, "float": (int, float), "string": str, "object": dict}[of]
            assert isinstance(value, python) and (of == "bool" or not isinstance(value, bool)), f"{where}: {value!r} is no {of}"
        else:
            self.check(self.types[of], value, where)


class Client:
    def __init__(self, path):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.socket.settimeout(30)
        self.socket.connect(str(path))
        self.buffer, self.interfaces = b"", {}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def pid(self):
        """Of the server."""
        return struct.unpack("3i", self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]

    def send(self, method, parameters=None, fds=(), **flags):
        text = json.dumps({"method": method, "parameters": parameters or {}, **flags}).encode() + b"\0"
        control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        sent = self.socket.sendmsg([text], control)
        self.socket.sendall(text[sent:])

    def receive(self):
        while b"\0" not in self.buffer:
            got = self.socket.recv(1 << 16)
            if not got:
                raise Closed
            self.buffer += got
            assert len(self.buffer) < MESSAGE_MAX
        text, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(text)

    def interface(self, name):
        if name not in self.interfaces:
            self.send("org.varlink.service.GetInterfaceDescription", {"interface": name})
            self.interfaces[name] = Interface(self.receive()["parameters"]["description"])
        return self.interfaces[name]

    def replies(self, method, parameters=None, fds=(), more=True):
        """All replies to a call, checked."""
        interface, name = self.interface(method.rsplit(".", 1)[0]), method.rsplit(".", 1)[1]
        self.send(method, parameters, fds, **({"more": True} if more else {}))
        while True:
            reply = self.receive()
            assert set(reply) <= {"parameters", "continues", "error"}, reply
            content = reply.get("parameters", {})
            if "error" in reply:
                where, _, error = reply["error"].rpartition(".")
                of = self.interface(where)
                of.check(of.errors[error], content, error)
                raise Error(error, content)
            interface.check(interface.methods[name][1], content, name)
            yield content
            if not reply.get("continues"):
                return
            assert more, "more than one reply, unasked"

    def call(self, method, parameters=None, fds=()):
        """The reply. A bare name is a method of io.stasis.Sandbox."""
        if "." not in method:
            method = "io.stasis.Sandbox." + method
        [reply] = self.replies(method, parameters, fds, more=False)
        return reply
