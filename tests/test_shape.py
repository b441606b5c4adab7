"""The repository checks its own shape: layers point down, nobody imports the root, the base imports nothing heavy."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "leeward"
LAYERS = [
    "__init__ __main__",
    "cli testing telemetry",
    "server integrations",
    "gateway",
    "sender store",
    "wire journal resilience issues scrub settings",
    "model clock version recipes",
    "errors",
]
RANK = {name: depth for depth, names in enumerate(LAYERS) for name in names.split()}
PUBLIC_PACKAGES = {"gateway", "resilience"}
LAZY = """\
def __getattr__(name: str) -> 'Any':
    if name not in _HOMES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    from importlib import import_module
    value = globals()[name] = getattr(import_module(f'{__name__}.{_HOMES[name]}'), name)
    return value\
def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})"""
FUNCTION_LINES_MAX = 70
MODULE_LINES_MAX = 600


def modules() -> list[Path]:
    return sorted(SOURCE.rglob("*.py"))


def part(path: Path) -> str:
    """The first name below the package: `sender` of sender/api.py, `clock` of clock.py."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: a relative import"
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def imports_inside() -> list[tuple[str, str]]:
    pairs = set()
    for path in modules():
        for name in imports_of(path):
            if name.startswith("leeward."):
                pairs.add((part(path), name.split(".")[1]))
            elif name == "leeward":
                pairs.add((part(path), "__init__"))
    return sorted(pairs)


@pytest.mark.parametrize(("importer", "imported"), imports_inside())
def test_imports_point_down(importer, imported):
    assert importer == imported or RANK[importer] < RANK[imported]


def test_nobody_inside_imports_the_root():
    assert [pair for pair in imports_inside() if pair[1] == "__init__" and pair[0] != "__main__"] == []


def test_modules_inside_a_package_do_not_import_each_other_in_a_circle():
    graph: dict[str, set[str]] = {}
    for path in modules():
        name = ".".join(path.relative_to(SOURCE.parent).with_suffix("").parts).removesuffix(".__init__")
        tree = ast.parse(path.read_text())
        for block in ast.walk(tree):  # imports for annotations only make no circle at run time
            if isinstance(block, ast.If) and ast.unparse(block.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}:
                block.body = []
        top = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
        graph[name] = {node.module for node in top if node.module and node.module.startswith("leeward.")}
    circles = []

    def visit(name: str, trail: tuple[str, ...]) -> None:
        if name in trail:
            circles.append(" → ".join((*trail[trail.index(name) :], name)))
            return
        if name in done:
            return
        for imported in sorted(graph.get(name, ())):
            visit(imported, (*trail, name))
        done.add(name)

    done: set[str] = set()
    for name in sorted(graph):
        visit(name, ())
    assert circles == []


@pytest.mark.parametrize("path", [p for p in modules() if p.name == "__init__.py" and p.parent != SOURCE], ids=str)
def test_inner_packages_are_plain_folders(path):
    if path.parent.name in PUBLIC_PACKAGES and path.parent.parent == SOURCE and path.read_text():
        assert_holds_lazy_names_only(path)
    else:
        assert path.read_text() == ""


def assert_holds_lazy_names_only(path: Path) -> None:
    """A docstring, the names for type checkers and their homes; a name is loaded when it is first asked for."""
    docstring, checking, imports, *constants, get, names = ast.parse(path.read_text()).body

    assert ast.get_docstring(ast.Module([docstring], []))
    assert ast.unparse(checking) == "TYPE_CHECKING = False"
    assert isinstance(imports, ast.If)
    assert ast.unparse(imports.test) == "TYPE_CHECKING"
    assert imports.orelse == []
    assert all(isinstance(node, ast.ImportFrom) for node in imports.body)
    own = [node for node in imports.body if node.module and node.module.startswith("leeward.")]
    public, homes = [ast.literal_eval(node.value) for node in constants if isinstance(node, ast.Assign)]
    assert [ast.unparse(node.targets[0]) for node in constants] == ["__all__", "_HOMES"]
    assert public == sorted(homes)
    assert {alias.name: node.module for node in own for alias in node.names} == {
        name: f"leeward.{path.parent.name}.{home}" for name, home in homes.items()
    }
    assert ast.unparse(get) + ast.unparse(names) == LAZY


@pytest.mark.parametrize(
    "path", [p for p in modules() if p.name != "__init__.py"], ids=lambda p: str(p.relative_to(SOURCE))
)
def test_every_module_says_what_it_is_for_and_stays_readable(path):
    text = path.read_text()
    tree = ast.parse(text)

    assert ast.get_docstring(tree), "no docstring"
    assert text.count("\n") <= MODULE_LINES_MAX
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            assert node.end_lineno - node.lineno <= FUNCTION_LINES_MAX, node.name


CLIENT = """
import sys
import leeward
heavy = sorted({m.split('.')[0] for m in sys.modules} & set(sys.argv[1:]))
print(' '.join(heavy))
"""
NEVER_AT_IMPORT = [
    "msgspec",
    "click",
    "uvicorn",
    "starlette",
    "sqlalchemy",
    "ssl",
    "http",
    "asyncio",
    "logging",
    "dataclasses",
    "typing",
    "re",
    "socket",
    "json",
]


def test_importing_the_client_pulls_in_neither_dependencies_nor_network_modules():
    command = [sys.executable, "-S", "-I", "-c", f"import sys; sys.path.insert(0, {str(SOURCE.parent)!r})" + CLIENT]

    loaded = subprocess.run([*command, *NEVER_AT_IMPORT], capture_output=True, text=True, check=True)

    assert loaded.stdout.split() == []


def test_requirement_files_are_pinned_hashed_and_name_no_index():
    for path in (ROOT / "requirements").glob("*.txt"):
        text = path.read_text()
        packages = [line for line in text.splitlines() if line and not line.startswith((" ", "#"))]

        assert "://" not in text
        assert all(re.match(r"[a-z0-9._-]+==\S+ ", line) for line in packages), path
        assert text.count("--hash=sha256:") >= len(packages)


def test_the_base_has_no_dependencies():
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert project["dependencies"] == []
