"""Declares, calls and awaits rules, the same for every Pants.

A rule is called as Pants 2.30 and newer do it: `await make_base_layer(request, **implicitly())`. Three habits keep the rule
visitors of both Pants content; `tests/backend/test_pants_engine.py` checks them:

- A rule takes at most one request; its other parameters are subsystems.
- Helpers (`async def` without a decorator) and rules stand above the rules that call them. A rule may call itself.
- `concurrently` takes calls of rules, not of helpers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Awaitable, Callable, Iterable, Protocol, TypeVar, overload

from opam_oci.pants_engine.version import BY_NAME

__all__ = ["collect_rules", "concurrently", "goal_rule", "implicitly", "rule", "uncacheable_rule"]

if TYPE_CHECKING:
    from pants.util.logging import LogLevel

    _Function = TypeVar("_Function", bound=Callable[..., Any])
    _T0 = TypeVar("_T0")
    _T1 = TypeVar("_T1")

    class _Decorator(Protocol):
        @overload
        def __call__(self, function: _Function, /) -> _Function: ...
        @overload
        def __call__(self, *, desc: str = ..., level: LogLevel = ...) -> Callable[[_Function], _Function]: ...

    rule: _Decorator
    goal_rule: _Decorator
    uncacheable_rule: _Decorator

    def implicitly(*inputs: Any) -> dict[str, Any]: ...

    @overload
    async def concurrently(calls: Iterable[Awaitable[_T0]], /) -> tuple[_T0, ...]: ...
    @overload
    async def concurrently(call0: Awaitable[_T0], call1: Awaitable[_T1], /) -> tuple[_T0, _T1]: ...
    async def concurrently(*calls: Any) -> Any: ...

    def collect_rules() -> list[Any]: ...

elif BY_NAME:
    from pants.engine.rules import _uncacheable_rule as uncacheable_rule
    from pants.engine.rules import collect_rules, concurrently, goal_rule, implicitly, rule
else:
    from opam_oci.pants_engine.rules_by_type import (
        collect_rules,
        concurrently,
        goal_rule,
        implicitly,
        rule,
        uncacheable_rule,
    )
