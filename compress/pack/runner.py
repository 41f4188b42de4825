"""runner.pyz: the measuring code of this toolkit, as far as one target needs it, in one file that Python 3.9 runs."""

from __future__ import annotations

import ast
import io
import re
import tokenize
import zipfile
from collections.abc import Mapping, Set
from functools import cache
from importlib.util import find_spec, resolve_name
from pathlib import Path

from export.errors import UnsupportedError
from targets import REGISTRY, TARGETS
from targets.registry import Registration

OURS = frozenset({"benchmarks", "targets", "export"})
ROOTS = ("benchmarks.device.main", "benchmarks.serve")
"""The commands, and the process that each engine is timed in."""

DESK = frozenset(
    {
        "targets.onnxruntime_mobile.build",
        "targets.onnxruntime_mobile.usability",
        "targets.openvino.decoder",
        "targets.openvino.max_pools",
    }
)
"""What only compiling needs, and imports where it does: a device never compiles."""

WRITING = frozenset(
    {
        "benchmarks.byte_pairs",
        "benchmarks.device.answers_timed",
        "benchmarks.device.answer",
        "benchmarks.device.written",
        "export.bundle.writing",
        "targets.generation",
        "targets.generation.cached_attention",
        "targets.generation.decoder",
        "targets.generation.session",
    }
)
"""What only a model that writes needs, and is imported where it does: the runner of another goes without."""

MODULES = "modules.zip"
_START = f"""import atexit, os, shutil, sys, tempfile, zipfile

folder = tempfile.mkdtemp(prefix="compress-runner-")
atexit.register(shutil.rmtree, folder, ignore_errors=True)
with zipfile.ZipFile(os.path.dirname(os.path.abspath(__file__))) as runner:
    runner.extract("{MODULES}", folder)
sys.path.insert(0, os.path.join(folder, "{MODULES}"))

from benchmarks.device.main import main

sys.exit(main())
"""


def make_runner(target: str, writes: bool = False) -> bytes:
    """The archive's bytes, the same for the same sources.

    The modules lie together in an archive of their own, uncompressed, and are compressed as one: 44 kB instead of 60.
    A target of another distribution goes along with its entry point, by which it is found on the device as it is here.

    Args:
        writes: the bundle holds a model that writes.

    Source: docs.python.org/3/library/zipapp.html
    """
    sources = {name: bare(source) for name, source in modules(target, writes).items()}
    together = _archive({**sources, **_distribution(REGISTRY.registered(target))}, zipfile.ZIP_STORED)
    return _archive({"__main__.py": _START, MODULES: together}, zipfile.ZIP_DEFLATED)


def modules(target: str, writes: bool = False) -> dict[str, str]:
    """Path in the archive -> source, of all modules of ours, and of the target's own package, that the runner may import.

    Raises:
        UnsupportedError: if the target's package has compiled parts.
    """
    registered = REGISTRY.registered(target)
    path = TARGETS[target] if registered is None else registered.path
    module = path.partition(":")[0]
    taken = OURS | {module.partition(".")[0]}
    left_out = DESK if writes else DESK | WRITING
    found: dict[str, str] = {}
    waiting = [*ROOTS, module]
    while waiting:
        name = waiting.pop()
        spec = find_spec(name) if name.partition(".")[0] in taken and name not in left_out else None
        if spec is None or spec.origin is None:
            continue
        file = Path(spec.origin)
        if file.suffix != ".py":
            raise UnsupportedError(
                f"{target}: its module {name} is compiled ({file.name}), and a runner takes Python sources alone; make it a "
                "package of its own that the device installs"
            )
        is_package = file.name == "__init__.py"
        place = name.replace(".", "/") + ("/__init__.py" if is_package else ".py")
        if place not in found:
            found[place] = file.read_text(encoding="utf-8")
            package = name if is_package else name.rpartition(".")[0]
            waiting += [name.rpartition(".")[0], *imported(found[place], package, taken)]
    return found


def imported(source: str, package: str = "", taken: Set[str] = OURS) -> set[str]:
    """The modules that a source names, wherever in it; a name imported from a package may be one of its modules.

    What stands under `if TYPE_CHECKING` is never imported.

    Args:
        package: what its relative imports start from.
        taken: the packages whose modules are told.
    """
    names: set[str] = set()
    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if _is_for_checkers(node):
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            origin = resolve_name("." * node.level + (node.module or ""), package)
            names |= {origin} | {
                f"{origin}.{alias.name}" for alias in node.names if _is_module(origin, alias.name, taken)
            }
        waiting += ast.iter_child_nodes(node)
    return {name for name in names if name.partition(".")[0] in taken}


def _distribution(registered: Registration | None) -> dict[str, str]:
    """What registers another distribution's target on the device: its metadata as far as `importlib.metadata` reads it."""
    if registered is None:
        return {}
    name, version = (re.sub(r"[^A-Za-z0-9.]+", "_", part) for part in (registered.distribution, registered.version))
    folder = f"{name}-{version}.dist-info"
    return {
        f"{folder}/METADATA": f"Metadata-Version: 2.1\nName: {registered.distribution}\nVersion: {registered.version}\n",
        f"{folder}/entry_points.txt": f"[{REGISTRY.group}]\n{registered.name} = {registered.path}\n",
    }


@cache
def bare(source: str) -> str:
    """A source without docstrings, comments, the types of functions, and what stands under `if TYPE_CHECKING`.

    Every line keeps its number, so that a traceback tells the place in the repository.
    """
    lines = source.splitlines()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            row, column = token.start
            lines[row - 1] = lines[row - 1][:column].rstrip()
    for node in ast.walk(ast.parse(source)):
        body = getattr(node, "body", []) if not isinstance(node, (ast.Lambda, ast.IfExp)) else []
        told = [statement for statement in body if _is_text(statement) or _is_for_checkers(statement)]
        for statement in told:
            assert statement.end_lineno is not None
            first, last = statement.lineno - 1, statement.end_lineno - 1
            # a body must hold something
            left = lines[first][: statement.col_offset] + '""' if len(told) == len(body) else ""
            lines[first : last + 1] = [left, *[""] * (last - first)]
    for row, first, last in _types(source):
        lines[row] = lines[row][:first] + lines[row][last:]
    return "\n".join(_narrow(lines, source)) + "\n"


def _types(source: str) -> list[tuple[int, int, int]]:
    """Line, first and last column of every type in a function's signature, the last ones first.

    Left out are types of several lines, and lines that hold more than ASCII: columns are counted in bytes.
    """
    lines, found = source.splitlines(), []
    for node in ast.walk(ast.parse(source)):
        told = node.annotation if isinstance(node, ast.arg) else getattr(node, "returns", None)
        if told is None or told.end_lineno != told.lineno or not lines[told.lineno - 1].isascii():
            continue
        mark, row = ":" if isinstance(node, ast.arg) else " ->", told.lineno - 1
        first = lines[row].rfind(mark, 0, told.col_offset)
        if first >= 0 and not lines[row][first + len(mark) : told.col_offset].strip():
            found.append((row, first, told.end_col_offset or first))
    return sorted(found, reverse=True)


def _narrow(lines: list[str], source: str) -> list[str]:
    """Indented by one space a level where the source is by four; what lies within a text stays."""
    within = {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, (ast.Constant, ast.JoinedStr)) and node.end_lineno is not None
        for line in range(node.lineno, node.end_lineno)
    }
    widths = [0 if place in within else len(line) - len(line.lstrip(" ")) for place, line in enumerate(lines)]
    if any(width % 4 for width in widths):
        return lines
    return [line[width - width // 4 :] for line, width in zip(lines, widths, strict=True)]


def _is_text(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def _is_for_checkers(node: ast.AST) -> bool:
    """`if TYPE_CHECKING` without an else."""
    return (
        isinstance(node, ast.If)
        and isinstance(node.test, ast.Name)
        and node.test.id == "TYPE_CHECKING"
        and not node.orelse
    )


def _is_module(package: str, name: str, taken: Set[str]) -> bool:
    if package.partition(".")[0] not in taken:
        return False
    spec = find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        return False
    return find_spec(f"{package}.{name}") is not None


def _archive(files: Mapping[str, str | bytes], method: int) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", method) as packed:
        for name, content in sorted(files.items()):
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            packed.writestr(entry, content, method, compresslevel=9)
    return archive.getvalue()
