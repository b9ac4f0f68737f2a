"""YAML as people read it: version 1.2's core schema, and no key twice.

PyYAML follows version 1.1, in which ``on`` is true, ``010`` eight, ``1:30`` ninety and ``1e-3`` a
text, and keeps the last of two equal keys without a word. Imports no PyTorch.
Source: YAML 1.2.2, 10.3.2, https://yaml.org/spec/1.2.2/#1032-tag-resolution
"""

import re
from collections.abc import Iterator
from enum import Enum
from typing import Any

import yaml

_LOADER: type[yaml.SafeLoader] = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_MOST_ENTRIES = 100_000  # of one mapping
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_PLAIN = {  # in the order in which they are tried; each with the letters it may begin with
    "null": (re.compile(r"null|Null|NULL|~|"), ["~", "n", "N", ""]),
    "bool": (re.compile(r"true|True|TRUE|false|False|FALSE"), list("tTfF")),
    "int": (_INT, list("-+0123456789")),
    "float": (_FLOAT, list("-+.0123456789")),
    "merge": (re.compile(r"<<"), ["<"]),  # of 1.1, and in use
}


class RefusedError(yaml.MarkedYAMLError):
    """A mapping gives one key twice, or merges grow without end."""


class Loader(_LOADER):
    """For ``yaml.load``; a key that stands twice in one mapping is a :class:`RefusedError`."""

    yaml_implicit_resolvers: dict[str, list[Any]] = {}

    def get_single_node(self) -> yaml.Node | None:
        """The text's tree, None where there is nothing."""
        node = super().get_single_node()
        if node is not None:
            _refuse_twice(node)
            _refuse_growth(node)
        return node


class _Dumper(yaml.SafeDumper):
    """Quotes a text that either version would read as something else."""


def _whole(pattern: re.Pattern[str]) -> re.Pattern[str]:
    return re.compile(rf"(?:{pattern.pattern})\Z")


for _name, (_pattern, _first) in _PLAIN.items():
    for _class in (Loader, _Dumper):
        _class.add_implicit_resolver(_TAG + _name, _whole(_pattern), _first)


# A choice of another library's, such as the default of a callback's argument.
_Dumper.add_multi_representer(Enum, lambda dumper, choice: dumper.represent_data(choice.value))


def _integer(loader: Any, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    return int(text, {"0o": 8, "0x": 16}.get(text[:2], 10))


Loader.add_constructor(f"{_TAG}int", _integer)


def load_yaml(text: str) -> Any:
    """What a YAML text holds: plain values, lists and mappings, None where there is nothing.

    Raises: yaml.YAMLError: it is no YAML. RefusedError: a key stands twice in one mapping, or
        merges grow without end.
        ValueError, OverflowError, RecursionError: a value that no one can read.
    """
    return yaml.load(text, Loader)


def dump_yaml(content: Any) -> str:
    """The text that :func:`load_yaml`, and PyYAML, too, read as ``content``."""
    return yaml.dump(
        content, Dumper=_Dumper, default_flow_style=False, allow_unicode=True, sort_keys=False
    )


def _refuse_growth(root: yaml.Node) -> None:
    """Looks at how many entries mappings have with those that merge keys bring in.

    Ten lines that merge ten times the line before each would be 10¹⁰; PyYAML copies every one.
    """
    known: dict[int, int] = {}

    def entries(mapping: yaml.MappingNode) -> int:
        if id(mapping) not in known:
            known[id(mapping)] = _MOST_ENTRIES  # of what merges itself
            found, merged = 0, False
            for key, value in mapping.value:
                merges = key.tag == f"{_TAG}merge"
                others = value.value if isinstance(value, yaml.SequenceNode) else [value]
                given = [each for each in others if isinstance(each, yaml.MappingNode)]
                found += sum(map(entries, given)) if merges else 1
                merged |= merges
            known[id(mapping)] = found if merged else min(found, _MOST_ENTRIES - 1)
        if known[id(mapping)] >= _MOST_ENTRIES:
            line = mapping.start_mark.line + 1
            raise RefusedError(
                problem=f"merge keys (<<) make {_MOST_ENTRIES:,} entries or more in line {line}",
                problem_mark=mapping.start_mark,
            )
        return known[id(mapping)]

    for mapping in _mappings(root):
        entries(mapping)


def _mappings(root: yaml.Node) -> Iterator[yaml.MappingNode]:
    """Each mapping of a text once, whatever aliases lead to it."""
    seen, left = set(), [root]
    while left:
        node = left.pop()
        if id(node) in seen or isinstance(node, yaml.ScalarNode):
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            yield node
            left += [each for pair in node.value for each in pair]
        else:
            left += node.value


def _refuse_twice(root: yaml.Node) -> None:
    """Looks at the text's own keys, before merge keys (``<<``) bring in those of others."""
    for mapping in _mappings(root):
        first: dict[tuple[str, str], yaml.Node] = {}
        for key, _ in mapping.value:
            if isinstance(key, yaml.ScalarNode):
                other = first.setdefault((key.tag, key.value), key)
                if other is not key:
                    lines = other.start_mark.line + 1, key.start_mark.line + 1
                    where = f"in line {lines[0]} and again in line {lines[1]}"
                    raise RefusedError(
                        problem=f"{key.value!r} is given {where}; leave one of them",
                        problem_mark=key.start_mark,
                    )
