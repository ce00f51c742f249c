"""
The application's own Python handlers: found, looked over, and made.

A write handler is a class with two methods, plain or async:

    def handle_command(self, command, prior_state, meta) -> list of events
    def handle_event(self, event, prior_state, meta) -> state

A read handler has one, or two:

    def handle(self, event, state, meta)
    def handle_many(self, deliveries)

Whatever does not fit is a ConfigurationError with one line, before any command is taken.
"""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any as Untyped

from cos_ray.domain.errors import ConfigurationError
from cos_ray.handlers.endpoints import PythonEndpoint
from cos_ray.handlers.python_types import Parameter, annotations_of, parameter

CHECK_TIMEOUT = 60.0
"""Seconds that importing an application may take before the check gives up."""

_FAULTY = 3
"""The exit status of a check that found something."""


_PARAMETERS = {
    "handle_command": "command, prior_state, meta",
    "handle_event": "event, prior_state, meta",
    "handle": "event, state, meta",
    "handle_many": "deliveries",
}
WRITE_SIDE = ("handle_command", "handle_event")
READ_SIDE = ("handle",)
"""The methods that a handler must have."""


@dataclass(frozen=True, slots=True)
class Method:
    """One of the methods, and what its first two parameters take."""

    name: str
    function: Callable[..., Untyped]
    is_async: bool
    first: Parameter
    """The command, or the event."""
    state: Parameter


@dataclass(frozen=True, slots=True)
class Application:
    """A made handler."""

    handle_command: Method
    handle_event: Method


@dataclass(frozen=True, slots=True)
class Reader:
    """A made read handler."""

    handle: Method
    handle_many: Method | None


def load(target: PythonEndpoint) -> Application:
    """Import a write handler's class and make one. Raises ConfigurationError."""
    made = _made(target, WRITE_SIDE)
    return Application(_method(target, made, "handle_command"), _method(target, made, "handle_event"))


def load_reader(target: PythonEndpoint) -> Reader:
    """Import a read handler's class and make one. Raises ConfigurationError."""
    made = _made(target, READ_SIDE)
    many = _method(target, made, "handle_many") if hasattr(made, "handle_many") else None
    return Reader(_method(target, made, "handle"), many)


def _made(target: PythonEndpoint, methods: Sequence[str]) -> object:
    class_ = _class(target)
    _check_class(target, class_, methods)
    try:
        return class_()
    except Exception as error:
        raise _unusable(target, f"cannot be made: {type(error).__name__}: {error}") from error


def fault_of(target: PythonEndpoint, methods: Sequence[str] = WRITE_SIDE) -> str | None:
    """
    What is wrong with the class, in one line; None when nothing is. It is imported but not made.

    That happens in a process of its own: what an application does when it is imported (start
    threads, open connections) must not happen in a launcher that is about to start Ray.
    """
    # On the same path as this process, and not, as with -m, the current folder before all else.
    program = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import check; check(*sys.argv[1:])"
    command = [sys.executable, "-c", program, target.reference]
    try:
        done = subprocess.run(
            [*command, target.search_path or "", target.setting, *methods],
            capture_output=True,
            text=True,
            timeout=CHECK_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return _line(target, f"was not imported within {CHECK_TIMEOUT:g} s")
    match done.returncode:
        case 0:
            return None
        case status if status == _FAULTY:
            return done.stdout.splitlines()[-1]
        case status:
            return _line(target, f"ended its process with status {status} when it was imported")


def _class(target: PythonEndpoint) -> type[Untyped]:
    module_name, _, class_name = target.reference.partition(":")
    if target.search_path is not None and target.search_path not in sys.path:
        # At the end: what is installed goes first.
        sys.path.append(target.search_path)
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise _unusable(target, f"cannot be imported: {type(error).__name__}: {error}") from error
    class_ = getattr(module, class_name, None)
    if not isinstance(class_, type):
        raise _unusable(target, f"is no class: {module_name} has none of that name")
    return class_


def _check_class(target: PythonEndpoint, class_: type[Untyped], methods: Sequence[str]) -> None:
    try:
        inspect.signature(class_).bind()
    except TypeError as error:
        raise _unusable(target, f"must be made without arguments, but has a {error}") from error
    except ValueError:
        pass  # written in another language: seen when it is made
    for name in methods:
        _method(target, class_, name)
    if methods == READ_SIDE and hasattr(class_, "handle_many"):
        _method(target, class_, "handle_many")


def _method(target: PythonEndpoint, owner: Untyped, name: str) -> Method:
    function = getattr(owner, name, None)
    if not callable(function):
        raise _unusable(target, f"has no method {name}")
    # Looked up on the class, a plain method still wants its `self`.
    is_unbound = isinstance(owner, type) and inspect.isfunction(inspect.getattr_static(owner, name))
    arguments = [None] * (_PARAMETERS[name].count(",") + 1 + is_unbound)
    try:
        inspect.signature(function).bind(*arguments)
    except TypeError as error:
        raise _unusable(target, f"{name} must take ({_PARAMETERS[name]}), but {error}") from error
    if inspect.isasyncgenfunction(function):
        raise _unusable(target, f"{name} is an async generator; allowed: a function, plain or async")
    if name == "handle_many":
        return Method(name, function, inspect.iscoroutinefunction(function), Parameter(), Parameter())
    try:
        annotations = annotations_of(function, ("self",) * is_unbound + ("first", "state"))
        first, state = (parameter(annotation) for annotation in annotations[is_unbound:])
    except (TypeError, NameError) as error:
        raise _unusable(target, f"{name} has annotations that cannot be used: {error}") from error
    return Method(name, function, inspect.iscoroutinefunction(function), first, state)


def _unusable(target: PythonEndpoint, problem: str) -> ConfigurationError:
    return ConfigurationError(_line(target, problem))


def _line(target: PythonEndpoint, problem: str) -> str:
    return f"{target.setting}: {target.reference} " + " ".join(problem.split())


def check(reference: str, search_path: str, setting: str, *methods: str) -> None:
    """End this process, which `fault_of` started, with what there is to say about the class."""
    target = PythonEndpoint(reference, search_path or None, setting=setting)
    try:
        _check_class(target, _class(target), methods)
    except ConfigurationError as error:
        print(error, flush=True)  # noqa: T201 - read by fault_of
        sys.exit(_FAULTY)
