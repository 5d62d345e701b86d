"""A YAML file that knows where each of its values stands, so that whatever is wrong with one can be pointed at.

Stricter than YAML: a name is written once in a mapping, dates stay text, and nothing is merged (`<<`). Aliases are
followed, up to a size.
"""

from pathlib import Path
from typing import Any

import yaml

from tollhouse.cli.output import Failure

MAX_FILE_BYTES = 1 << 20
MAX_NODES = 100_000
"""Values in a file, each counted as often as aliases repeat it."""
MAX_DEPTH = 64

_TIMESTAMP = "tag:yaml.org,2002:timestamp"
_MERGE = "tag:yaml.org,2002:merge"


class _Loader(yaml.SafeLoader):
    """Dates stay as they are written."""

    yaml_implicit_resolvers = {  # noqa: RUF012  as its base class has it
        first: [(tag, pattern) for tag, pattern in resolvers if tag != _TIMESTAMP]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class DeclaredFile:
    """`tree` is what the file holds, as JSON has it."""

    def __init__(self, name: str, text: str) -> None:
        """Raises Failure for what is no YAML, or not a mapping."""
        self.name = name
        self._marks: dict[tuple[str | int, ...], yaml.Mark] = {}
        self._nodes = 0
        loader = _Loader(text)
        try:
            node = loader.get_single_node()
            tree = {} if node is None else self._value(loader, node, ())
        except (yaml.YAMLError, ValueError) as error:
            raise Failure(self._yaml_problem(error), code="invalid_file", exit_code=2) from error
        finally:
            loader.dispose()
        if not isinstance(tree, dict):
            raise self.failure((), f"a file of this kind is a mapping, not {_kind(tree)}")
        self.tree: dict[str, Any] = tree

    def place(self, path: tuple[str | int, ...]) -> str:
        """`people.yaml:12:5` of a value, or of what it should stand in."""
        while path and path not in self._marks:
            path = path[:-1]
        mark = self._marks.get(path)
        return self.name if mark is None else f"{self.name}:{mark.line + 1}:{mark.column + 1}"

    def failure(self, path: tuple[str | int, ...], message: str) -> Failure:
        return Failure(f"{self.place(path)}: {message}", code="invalid_file", exit_code=2)

    def explain(self, failure: Failure, root: str = "resources") -> Failure:
        """What the server says of fields, said of places in this file."""
        errors = failure.problem.get("errors")
        if not isinstance(errors, list) or not errors:
            return failure
        told = [self._told(str(error.get("field", "")), str(error.get("message", "")), root) for error in errors]
        problem = {**failure.problem, "errors": told}
        first = f"{told[0]['field']}: {told[0]['message']}"
        return Failure(first, code=failure.code, exit_code=failure.exit_code, problem=problem)

    def _told(self, field: str, message: str, root: str) -> dict[str, str]:
        path = self._path(field.removeprefix(f"{root}."))
        return {"field": f"{self.place(path)}: {'.'.join(map(str, path)) or field}", "message": message}

    def _path(self, dotted: str) -> tuple[str | int, ...]:
        """A name may hold dots itself: the longest that is there is the one that is meant."""
        path: tuple[str | int, ...] = ()
        words = dotted.split(".") if dotted else []
        while words:
            for end in range(len(words), 0, -1):
                step = ".".join(words[:end])
                taken = (*path, int(step)) if step.isdecimal() and (*path, int(step)) in self._marks else (*path, step)
                if taken in self._marks or end == 1:
                    path, words = taken, words[end:]
                    break
        return path

    def _value(self, loader: _Loader, node: yaml.Node, path: tuple[str | int, ...]) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES or len(path) > MAX_DEPTH:
            raise self.failure(path, f"more than {MAX_NODES:,} values, or nested deeper than {MAX_DEPTH}")
        self._marks.setdefault(path, node.start_mark)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(loader, inner, (*path, place)) for place, inner in enumerate(node.value)]
        if not isinstance(node, yaml.MappingNode):
            return loader.construct_object(node)
        found: dict[str, Any] = {}
        for key_node, inner in node.value:
            if key_node.tag == _MERGE:
                self._marks[path] = key_node.start_mark
                raise self.failure(path, "mappings are not merged (`<<`) here; write the fields out")
            key = loader.construct_object(key_node) if isinstance(key_node, yaml.ScalarNode) else None
            name = str(key)
            if key is None or name in found:
                self._marks[(*path, name)] = key_node.start_mark
                message = "a name is a plain word" if key is None else f"{name} is written twice in one mapping"
                raise self.failure((*path, name), message)
            self._marks[(*path, name)] = key_node.start_mark
            found[name] = self._value(loader, inner, (*path, name))
        return found

    def _yaml_problem(self, error: Exception) -> str:
        mark = getattr(error, "problem_mark", None)
        where = self.name if mark is None else f"{self.name}:{mark.line + 1}:{mark.column + 1}"
        return f"{where}: not YAML: {getattr(error, 'problem', None) or error}"


def read_file(path: Path, name: str = "") -> DeclaredFile:
    """Raises Failure when it cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
        text = data.decode()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise Failure(f"cannot read {path}: {reason}", code="unreadable", exit_code=2) from error
    if len(data) > MAX_FILE_BYTES:
        raise Failure(f"{path} is larger than {MAX_FILE_BYTES:,} bytes; make it two", code="too_large", exit_code=2)
    return DeclaredFile(name or str(path), text)


def _kind(value: object) -> str:
    return "a list" if isinstance(value, list) else "a single value"
