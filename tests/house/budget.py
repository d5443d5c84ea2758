"""Check the size budget of the package: files, functions, parameters. Run by `make check`."""

import ast
import sys
from pathlib import Path

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 45
MAX_PARAMETERS = 7
PACKAGE = Path(__file__).parents[2] / "worldstereo_cli"
# A Typer command declares its options as parameters: there the number is the user's choice of flags.
COMMANDS = PACKAGE / "cli" / "app.py"


def problems_in(path: Path) -> list[str]:
    """List what exceeds the budget in one file."""
    text = path.read_text(encoding="utf-8")
    name = path.relative_to(PACKAGE.parent)
    found = []
    if (lines := text.count("\n")) > MAX_FILE_LINES:
        found.append(f"{name}: {lines} lines, at most {MAX_FILE_LINES}")
    for node in ast.walk(ast.parse(text)):
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        where = f"{name}:{node.lineno} {node.name}"
        length = (node.end_lineno or node.lineno) - node.lineno + 1
        if length > MAX_FUNCTION_LINES:
            found.append(f"{where}: {length} lines, at most {MAX_FUNCTION_LINES}")
        arguments = node.args
        names = [a.arg for a in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]
        count = len([n for n in names if n not in ("self", "cls")])
        if count > MAX_PARAMETERS and path != COMMANDS and not _is_kernel(node):
            found.append(f"{where}: {count} parameters, at most {MAX_PARAMETERS}")
    return found


def _is_kernel(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Compiled kernels take arrays one by one; numba knows no value types."""
    return any("njit" in ast.unparse(d) or "vectorize" in ast.unparse(d) for d in node.decorator_list)


def main() -> int:
    """Print every excess and say by exit code whether there is one."""
    found = [problem for path in sorted(PACKAGE.rglob("*.py")) for problem in problems_in(path)]
    sys.stdout.write("".join(f"{problem}\n" for problem in found))
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
