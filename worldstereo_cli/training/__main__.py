"""Train what ships in the package: `python -m worldstereo_cli.training MODEL ...`."""

import sys
from collections.abc import Callable

from worldstereo_cli.errors import WorldStereoError


def _command(name: str) -> Callable[[list[str]], int] | None:
    match name:
        case "depth":
            from worldstereo_cli.training.depth.command import main

            return main
        case "assets":
            from worldstereo_cli.training.assets.command import main as build_assets

            return build_assets
    return None


def main(arguments: list[str]) -> int:
    """Run the training that the first argument names; return the exit code."""
    command = _command(arguments[0]) if arguments else None
    if command is None:
        sys.stderr.write("usage: python -m worldstereo_cli.training {depth,assets} ...\n")
        return 2
    try:
        return command(arguments[1:])
    except WorldStereoError as error:
        sys.stderr.write(f"error: {error.problem}\n  try: {error.remedy}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
