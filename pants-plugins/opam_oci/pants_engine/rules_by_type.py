"""Makes rules of Pants 2.17, which asks for results by their types, callable by name."""

from __future__ import annotations

import inspect
from typing import Any, Callable, get_type_hints

from pants.engine.rules import Get, MultiGet, collect_rules, goal_rule
from pants.engine.rules import _uncacheable_rule as _pants_uncacheable_rule
from pants.engine.rules import rule as _pants_rule
from pants.option.subsystem import Subsystem

__all__ = ["answered_by_get", "collect_rules", "concurrently", "goal_rule", "implicitly", "rule", "uncacheable_rule"]

concurrently = MultiGet


def implicitly() -> dict[str, Any]:
    """What a call by name ends with. Pants 2.17 finds a rule's other parameters without being told."""
    return {}


def answered_by_get(function: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a function that returns a `Get`.

    The rule visitor reads the bodies of functions whose return annotation is the bare class `Get`, and looks for that
    in an attribute of this name first. So the annotation itself is free to say what the `Get` gives.
    """
    setattr(function, "return", Get)
    return function


def _call_with_request(output: type, request_type: type) -> Callable[..., Any]:
    def call(request: Any, **_: Any) -> Any:
        return Get(output, request_type, request)

    return answered_by_get(call)


def _call_without_request(output: type) -> Callable[..., Any]:
    def call(**_: Any) -> Any:
        return Get(output)

    return answered_by_get(call)


def _call_of(function: Callable[..., Any]) -> Callable[..., Any]:
    """What a call of the rule `function` is: the question for its result."""
    hints = get_type_hints(function)
    output = hints["return"]
    first = next(iter(inspect.signature(function).parameters), None)
    if first is None or issubclass(hints[first], Subsystem):
        return _call_without_request(output)
    return _call_with_request(output, hints[first])


def _callable_by_name(declare: Callable[..., Any]) -> Callable[..., Any]:
    """One of Pants' decorators, made to leave a function that is a call in place of the rule's own."""

    def decorate(function: Callable[..., Any] | None = None, **options: Any) -> Callable[..., Any]:
        if function is None:
            return lambda declared: decorate(declared, **options)
        call = _call_of(function)
        call.__name__, call.__qualname__, call.__doc__ = function.__name__, function.__qualname__, function.__doc__
        # Before the rule's body is read: it may call itself.
        function.__globals__[function.__name__] = call
        declared = declare(**options)(function) if options else declare(function)
        call.rule = declared.rule  # type: ignore[attr-defined]
        return call

    return decorate


rule = _callable_by_name(_pants_rule)
uncacheable_rule = _callable_by_name(_pants_uncacheable_rule)
