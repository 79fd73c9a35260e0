"""The two ways of calling rules say the same, and the backend's rules keep the habits that both Pants need."""

from __future__ import annotations

import ast
import inspect
import json
from pathlib import Path
from typing import Any, Iterator, get_args, get_type_hints

import pytest
from pants.engine.addresses import Address, Addresses
from pants.engine.fs import CreateDigest, FileContent
from pants.engine.rules import TaskRule
from pants.option.subsystem import Subsystem

from opam_oci import pants_engine, register
from opam_oci.pants_engine.version import BY_NAME

_PLUGIN = Path(register.__file__).parent
_ENGINE = Path(pants_engine.__file__).parent
# Signatures of the functions of Pants that calls_by_name.py names, the same in all these versions.
_FACTS = json.loads((Path(__file__).parent / "pants_calls.json").read_text())

_Function = (ast.FunctionDef, ast.AsyncFunctionDef)


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def _functions(tree: ast.Module) -> dict[str, Any]:
    return {node.name: node for node in tree.body if isinstance(node, _Function)}


def _names_listed(tree: ast.Module) -> list[str]:
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    raise AssertionError("no __all__")


def _imported(tree: ast.Module) -> dict[str, str]:
    """Names by the full ones that they are imported from."""
    return {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }


BY_TYPE_TREE = _tree(_ENGINE / "calls_by_type.py")
BY_NAME_TREE = _tree(_ENGINE / "calls_by_name.py")


def _signature_by_type(name: str) -> tuple[list[str], str]:
    """Parameters as "name: Type", and the type in `Get[Type]`."""
    node = _functions(BY_TYPE_TREE)[name]
    returned = node.returns
    assert isinstance(returned, ast.Subscript), ast.unparse(returned)
    return [f"{p.arg}: {ast.unparse(p.annotation)}" for p in node.args.args], ast.unparse(returned.slice)


def test_both_halves_have_the_same_functions() -> None:
    listed = _names_listed(BY_TYPE_TREE)
    assert listed == sorted(listed) == _names_listed(BY_NAME_TREE)
    assert set(listed) <= set(_functions(BY_TYPE_TREE))
    assert set(listed) <= set(_functions(BY_NAME_TREE)) | set(_imported(BY_NAME_TREE))


@pytest.mark.parametrize("name", _names_listed(BY_TYPE_TREE))
def test_both_halves_have_the_same_parameters_and_results(name: str) -> None:
    parameters, result = _signature_by_type(name)
    helper = _functions(BY_NAME_TREE).get(name)
    if helper is not None:
        assert [f"{p.arg}: {ast.unparse(p.annotation)}" for p in helper.args.args] == parameters
        assert ast.unparse(helper.returns) == result
    else:
        fact = _FACTS["functions"][_imported(BY_NAME_TREE)[name]]
        # A rule that is handed on as it is has no parameter but its request, or `implicitly()` would be missing.
        assert [_renamed(one) for one in fact["parameters"]] == [_renamed(one) for one in parameters]
        assert fact["returns"] == result


def _renamed(parameter: str) -> str:
    """Requests are positional: only their types count."""
    return parameter.partition(": ")[2]


def test_each_name_of_newer_pants_is_a_known_one() -> None:
    called = {
        full
        for name, full in _imported(BY_NAME_TREE).items()
        if full.startswith("pants.") and not name[0].isupper() and name != "implicitly"
    }
    assert called == set(_FACTS["functions"])


@pytest.mark.skipif(not BY_NAME, reason="needs Pants 2.30 or newer")
def test_newer_pants_is_as_recorded() -> None:
    from importlib import import_module

    for full, fact in _FACTS["functions"].items():
        module, _, name = full.rpartition(".")
        function = inspect.unwrap(getattr(import_module(module), name))
        hints = get_type_hints(function)
        parameters = [f"{name}: {kind.__name__}" for name, kind in hints.items() if name != "return"]
        assert parameters == fact["parameters"], full
        assert hasattr(getattr(import_module(module), name), "rule_id") == fact["rule"], full


def test_calls_within_a_helper_give_what_the_rule_takes() -> None:
    """Each call in calls_by_name.py passes the type that the rule asks for first, and returns what the rule returns."""
    imported = _imported(BY_NAME_TREE)
    for name, helper in _functions(BY_NAME_TREE).items():
        types = {p.arg: ast.unparse(p.annotation) for p in helper.args.args}
        for call in (node for node in ast.walk(helper) if isinstance(node, ast.Call)):
            full = imported.get(ast.unparse(call.func), "")
            fact = _FACTS["functions"].get(full)
            if fact is None or not call.args:
                continue
            argument = call.args[0]
            if isinstance(argument, ast.Name) and argument.id in types:
                assert types[argument.id] == fact["parameters"][0].partition(": ")[2], (name, full)
            if len(fact["parameters"]) > len(call.args):
                assert "implicitly" in ast.unparse(call), (name, full)


# The backend's own rules.

_MODULES = sorted(path for path in _PLUGIN.rglob("*.py") if path.parent != _ENGINE)


def _is_rule(node: Any) -> bool:
    return any("rule" in ast.unparse(one).partition("(")[0] for one in node.decorator_list)


def _own_functions() -> Iterator[tuple[Path, ast.Module, Any]]:
    for path in _MODULES:
        tree = _tree(path)
        for node in tree.body:
            if isinstance(node, _Function):
                yield path, tree, node


@pytest.mark.parametrize("path", _MODULES, ids=lambda path: str(path.relative_to(_PLUGIN)))
def test_what_is_awaited_stands_above_who_awaits_it(path: Path) -> None:
    """Pants 2.17 does not see what is defined later, and newer ones take a helper that is defined later for a rule."""
    tree = _tree(path)
    functions = _functions(tree)
    for node in functions.values():
        for call in (one for one in ast.walk(node) if isinstance(one, ast.Call) and isinstance(one.func, ast.Name)):
            other = functions.get(call.func.id)
            if isinstance(other, ast.AsyncFunctionDef) and other is not node:
                assert other.lineno < node.lineno, f"{node.name} stands above {other.name}"


def test_rules_are_called_as_newer_pants_wants_it() -> None:
    """Every call of an own rule ends in `**implicitly()`, and takes at most one request."""
    rules = {node.name for _, _, node in _own_functions() if _is_rule(node)}
    found = 0
    for path, _, node in _own_functions():
        for call in (one for one in ast.walk(node) if isinstance(one, ast.Call) and isinstance(one.func, ast.Name)):
            if call.func.id in rules:
                found += 1
                assert [ast.unparse(keyword) for keyword in call.keywords] == ["**implicitly()"], (path, call.lineno)
                assert len(call.args) <= 1, (path, call.lineno)
    assert found > 60


def test_concurrently_takes_no_helpers() -> None:
    """`MultiGet` of Pants 2.17 takes questions, not coroutines."""
    helpers = {
        node.name for _, _, node in _own_functions() if isinstance(node, ast.AsyncFunctionDef) and not _is_rule(node)
    } | {"read_files", "file_entries"}
    for path, _, node in _own_functions():
        for call in (one for one in ast.walk(node) if isinstance(one, ast.Call)):
            if ast.unparse(call.func) == "concurrently":
                for inner in (one for one in ast.walk(call) if isinstance(one, ast.Call)):
                    assert ast.unparse(inner.func) not in helpers, (path, inner.lineno)


def _task_rules() -> list[TaskRule]:
    """The rules of this backend, without those that Pants makes of subsystems and unions."""
    rules = (one for one in register.rules() if isinstance(one, TaskRule) and inspect.isfunction(one.func))
    return [one for one in rules if one.func.__module__.startswith("opam_oci")]


def test_the_visitor_sees_every_call() -> None:
    """What a rule's body, and the helpers that it calls, ask for is what the engine has on record for the rule."""
    recorded = 0
    by_function = {rule.func: rule for rule in _task_rules()}
    for function, rule in by_function.items():
        expected = _questions(function, set())
        if BY_NAME:
            seen = {constraint.rule_id.rpartition(".")[2] for constraint in rule.awaitables}
            assert expected <= seen, function
        else:
            seen = {constraint.output_type.__name__ for constraint in rule.input_gets}
            assert {_output_of(name) for name in expected} <= seen, function
        recorded += len(expected)
    assert recorded > 75


def _questions(function: Any, visited: set[Any]) -> set[str]:
    """Names of the rules of this backend that a function asks, itself or through helpers."""
    visited.add(function)
    tree = ast.parse(inspect.cleandoc("\n" + inspect.getsource(function)))
    names = {call.func.id for call in ast.walk(tree) if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)}
    found = set()
    for name in names:
        value = function.__globals__.get(name)
        if isinstance(getattr(value, "rule", None), TaskRule):
            found.add(value.rule.func.__name__)
        elif inspect.iscoroutinefunction(value) and value not in visited and value.__module__.startswith("opam_oci"):
            found |= _questions(value, visited)
    return found


def _output_of(name: str) -> str:
    for rule in _task_rules():
        if rule.func.__name__ == name:
            return rule.output_type.__name__
    raise AssertionError(name)


@pytest.mark.skipif(BY_NAME, reason="Pants 2.17 alone needs a rule's first parameter to be its request")
def test_a_call_asks_for_the_rule_s_own_types() -> None:
    for rule in _task_rules():
        call = rule.func.__globals__.get(rule.func.__name__)
        if call is None or getattr(call, "return", None) is None:
            continue  # a goal's rule, which nobody calls
        hints = get_type_hints(rule.func)
        parameters = [hints[name] for name in inspect.signature(rule.func).parameters]
        request = None if not parameters or issubclass(parameters[0], Subsystem) else parameters[0]
        closure = inspect.getclosurevars(call).nonlocals
        assert closure["output"] is rule.output_type
        assert closure.get("request_type") is request


def test_helpers_of_pants_rules_are_typed() -> None:
    if BY_NAME:
        pytest.skip("calls_by_type.py is for Pants 2.17")
    from opam_oci.pants_engine import calls_by_type

    for name in calls_by_type.__all__:
        assert get_args(get_type_hints(getattr(calls_by_type, name))["return"]), name


def test_each_request_has_a_hash_of_its_own() -> None:
    """With one hash for all, the engine takes as many comparisons as there are pairs of requests."""
    digests = [CreateDigest([FileContent("request.json", str(number).encode())]) for number in range(100)]
    addresses = [Addresses([Address("", target_name=str(number))]) for number in range(100)]
    assert len({hash(one) for one in (*digests, *addresses)}) == 200
    assert {*digests} == {*map(CreateDigest, digests)}
    assert {*addresses} == {*map(Addresses, addresses)}
