"""The commands for models that are too large to ship: `weights list`, `weights pull`."""

from __future__ import annotations

from typing import Annotated

import typer

from worldstereo_cli.cli.console import Console

weights_app = typer.Typer(
    help="List and fetch models that do not ship with the package.", no_args_is_help=True
)


@weights_app.command("list")
def weights_list() -> None:
    """List the released models: size, licence, what they need, and what is here."""
    from worldstereo_cli.models.catalogue import list_weights

    for status in list_weights():
        release = status.release
        partly = f"{status.cached_bytes / 1e9:.1f} GB of it in {status.cache}"
        here = str(status.folder.model) if status.folder else partly
        typer.echo(f"{release.name:<24}{release.approximate_gb:>5.0f} GB  {release.own.licence:<12}{here}")
        typer.echo(f"{'':<24}{release.what}; needs {release.needs}")
        for source in (release.own, release.base):
            where = f"{source.repo} at {source.revision[:8]}, {source.licence}"
            typer.echo(f"{'':<24}{where}: {', '.join(source.patterns)}")


@weights_app.command("pull")
def weights_pull(name: Annotated[str, typer.Argument(help="A name that `weights list` shows.")]) -> None:
    """Fetch a model: only the files it needs, checked, continuing where it stopped."""
    import torch

    from worldstereo_cli.models.catalogue import RELEASES
    from worldstereo_cli.models.fetch import pull_weights
    from worldstereo_cli.models.video.parts import VideoParts

    if name in RELEASES:
        release = RELEASES[name]
        typer.echo(f"licences: {release.own.licence} ({release.own.repo}), "
                   f"{release.base.licence} ({release.base.repo})", err=True)  # fmt: skip
    with Console() as console:
        lines = console.scene()
        lines.stage_started("weights", f"fetching {name}")
        folder = pull_weights(name, progress=lines.progress)
        VideoParts.open(folder, torch.device("cpu")).fetch_missing_tensors()
    typer.echo(folder.model)
