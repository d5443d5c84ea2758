"""What can go wrong in a way that a user can act on.

Every error says what is wrong and what to do about it. `cli.main` is the only place that
catches them; anything else that is raised is a bug of ours and keeps its traceback.
"""

from typing import ClassVar


class WorldStereoError(Exception):
    """A problem with a remedy."""

    exit_code: ClassVar[int] = 1

    def __init__(self, problem: str, *, remedy: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.remedy = remedy


class RecipeError(WorldStereoError):
    """A recipe, or an override of one, that cannot be used."""

    exit_code: ClassVar[int] = 3


class InputError(WorldStereoError):
    """A file or value from the user that cannot be used."""

    exit_code: ClassVar[int] = 4


class ArtifactError(WorldStereoError):
    """A scene directory that is missing, unfinished, damaged or of another kind."""

    exit_code: ClassVar[int] = 4


class BackendError(WorldStereoError):
    """A model, its weights or a library that is not there or does not work."""

    exit_code: ClassVar[int] = 5


class OutOfMemory(WorldStereoError):  # noqa: N818  (the field says "out of memory", not "error")
    """Host or GPU memory ran out."""

    exit_code: ClassVar[int] = 6
