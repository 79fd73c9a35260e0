"""How packages are joined where an image would have too many layers: what the algorithm promises."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Sequence, Tuple

from hypothesis import given, settings
from hypothesis import strategies as st

from opam_oci.images.grouping import Groups, Unit, cost, group
from opam_oci.resolves.dependency_order import build_order

# A run says the same as the run before it.
settings.register_profile("grouping", deadline=None, derandomize=True, database=None, max_examples=60)
settings.load_profile("grouping")

Graph = Dict[str, Tuple[str, ...]]


def units(graph: Graph, roots: Sequence[str], contents: Mapping[str, str] = {}) -> List[Unit]:  # noqa: B006
    """The packages that `roots` need, dependencies first. A package's key is its name unless `contents` has another."""
    found: List[str] = []
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.append(name)
            waiting.extend(graph[name])
    order = build_order({name: graph[name] for name in found})
    return [
        Unit(contents.get(name, name), name, tuple(contents.get(other, other) for other in graph[name]))
        for name in order
    ]


@st.composite
def graphs(draw: Any) -> Graph:
    """Packages p0, p1 ..., each of which may need some with a smaller number."""
    count = draw(st.integers(1, 25))
    return {
        f"p{number}": tuple(
            f"p{other}" for other in sorted(draw(st.sets(st.integers(0, number - 1), max_size=4)) if number else ())
        )
        for number in range(count)
    }


@st.composite
def builds(draw: Any) -> "tuple[Graph, Dict[str, List[Unit]], Dict[str, int]]":
    """A graph, images of some of its packages, and how many groups each may have."""
    graph = draw(graphs())
    names = sorted(graph)
    images = {}
    budgets = {}
    for number in range(draw(st.integers(1, 4))):
        roots = sorted(draw(st.sets(st.sampled_from(names), min_size=1, max_size=4)))
        images[f"i{number}"] = units(graph, roots)
        budgets[f"i{number}"] = draw(st.integers(1, len(names) + 1))
    return graph, images, budgets


def flat(groups: Groups) -> List[str]:
    return [key for one in groups for key in one]


@given(builds())
def test_every_package_once_and_no_more_groups_than_allowed(build: Any) -> None:
    _, images, budgets = build
    for image, groups in group(images, budgets).items():
        assert sorted(flat(groups)) == sorted(unit.key for unit in images[image])
        assert 1 <= len(groups) <= budgets[image]
        assert all(groups)


@given(builds())
def test_groups_follow_the_dependencies(build: Any) -> None:
    """No package lies below one that it needs, be it in a group of its own or in the same."""
    graph, images, budgets = build
    for groups in group(images, budgets).values():
        position = {key: number for number, key in enumerate(flat(groups))}
        assert all(position[other] < position[key] for key in position for other in graph[key])


@given(builds(), st.randoms(use_true_random=False))
def test_the_order_of_the_images_says_nothing(build: Any, random: Any) -> None:
    _, images, budgets = build
    shuffled = list(images)
    random.shuffle(shuffled)
    assert group({image: images[image] for image in shuffled}, budgets) == group(images, budgets)


@given(builds())
def test_nothing_is_joined_without_need(build: Any) -> None:
    _, images, budgets = build
    if all(len(images[image]) <= budgets[image] for image in images):
        for image, groups in group(images, budgets).items():
            assert groups == tuple((unit.key,) for unit in images[image])


@given(builds(), st.data())
def test_contents_say_nothing(build: Any, data: Any) -> None:
    """A package with other contents, everywhere, is in the same group: only that group's layer changes."""
    graph, images, budgets = build
    changed = data.draw(st.sampled_from(sorted(graph)))
    contents = {changed: "0 other contents"}
    after = {
        image: [Unit(contents.get(u.key, u.key), u.name, tuple(contents.get(d, d) for d in u.depends)) for u in held]
        for image, held in images.items()
    }
    expected = {
        image: tuple(tuple(contents.get(key, key) for key in one) for one in groups)
        for image, groups in group(images, budgets).items()
    }
    assert group(after, budgets) == expected


@given(builds())
def test_the_less_shared_are_joined_first(build: Any) -> None:
    """In the one image that has too many packages, neighbours are joined only where all that cost less are.

    Packages of this image alone cost the least, and those that all hold but few others together the most."""
    _, images, budgets = build
    holders: Dict[str, frozenset[str]] = {
        unit.key: frozenset(i for i, held in images.items() if unit in held) for one in images.values() for unit in one
    }
    groups = group(images, {image: budgets["i0"] if image == "i0" else 99 for image in images})["i0"]
    if all(len(one) == 1 for one in groups):
        return
    sequence = flat(groups)
    last = {one[-1] for one in groups}
    costs: Dict[bool, List[Tuple[bool, int]]] = {True: [], False: []}
    for below, above in zip(sequence, sequence[1:]):
        costs[below in last].append(cost(holders[below], holders[above]))
    assert not costs[True] or max(costs[False]) <= min(costs[True])


def test_what_joining_costs() -> None:
    own, two, both = frozenset("a"), frozenset("b"), frozenset("ab")
    assert cost(own, own) < cost(own, two) < cost(both, both) < cost(both, own) < cost(frozenset("abcdef"), own)


def test_shared_packages_stay_alone() -> None:
    """Two images over the same twenty packages, with thirty of their own each: those of their own are joined."""
    common = {f"c{n:02}": (f"c{n - 1:02}",) if n else () for n in range(20)}
    graph: Graph = {**common, **{f"{i}{n:02}": ("c19",) for i in "ab" for n in range(30)}}
    images = {i: units(graph, [f"{i}{n:02}" for n in range(30)]) for i in "ab"}
    for groups in group(images, {"a": 30, "b": 30}).values():
        assert len(groups) == 30
        assert [len(one) for one in groups[:20]] == [1] * 20


def test_groups_of_what_is_shared_are_shared() -> None:
    """Where even the shared packages have to be joined, both images form the same groups."""
    common = {f"c{n:02}": () for n in range(40)}
    graph: Graph = {**common, "a": tuple(common), "b": tuple(common)}
    images = {"a": units(graph, ["a"]), "b": units(graph, ["b"])}
    result = group(images, {"a": 20, "b": 30})
    assert set(result["a"][:-1]) == set(result["b"][:-1])
    assert len(result["a"]) <= 20 and len(result["a"][-1]) == 1


@given(graphs(), st.integers(2, 12))
def test_a_new_package_changes_few_groups(graph: Graph, budget: int) -> None:
    """One more root, on top of an image by itself: at most three groups are not what they were."""
    before = group({"i": units(graph, sorted(graph))}, {"i": budget})["i"]
    after = group({"i": units({**graph, "q": ()}, sorted([*graph, "q"]))}, {"i": budget})["i"]
    assert len(set(after) - set(before)) <= 3


def test_one_group() -> None:
    graph: Graph = {"a": (), "b": ("a",), "c": ("b",)}
    assert group({"i": units(graph, ["c"])}, {"i": 1}) == {"i": (("a", "b", "c"),)}
