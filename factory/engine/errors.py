"""The errors a user can meet, each with one meaning.

A message names the thing, what was expected and the next act. Third-party exceptions are turned into one of these
once, at the boundary where they arise; everything else that escapes is a bug of ours and keeps its traceback.
Exit codes of the command line: 0 done, 1 failed, 2 wrong usage, 3 finished but a gate or quota was not met.
"""

from __future__ import annotations


class FactoryError(Exception):
    """Root of every error this project raises on purpose. `exit_code` is what the command line returns."""

    exit_code = 1


class UsageError(FactoryError):
    """The command or its arguments cannot be understood; nothing was created."""

    exit_code = 2


class RecipeError(UsageError):
    """A recipe is wrong. `where` is `file:line` when known, `field` a dotted path such as `steps.samples.params.n`."""

    def __init__(self, message: str, *, file: str | None = None, line: int | None = None, field: str | None = None):
        self.message, self.file, self.line, self.field = message, file, line, field
        place = ":".join(str(part) for part in (file, line) if part is not None)
        super().__init__(": ".join(part for part in (place, field, message) if part))


class OpError(UsageError):
    """An op is unknown or wrongly declared."""


class MissingExtraError(FactoryError):
    """A module of an optional extra is not installed; the message names the extra and the command."""

    def __init__(self, module: str, extra: str):
        super().__init__(f"{module} is not installed: it comes with the extra `{extra}`. "
                         f"Install it with: pip install 'dataset-factory[{extra}]'")


class DataError(FactoryError):
    """Input data cannot be used: the message names the file, the line or column, and what was expected."""


class ModelError(FactoryError):
    """A model cannot be loaded or stopped answering."""


class BackendDied(ModelError):
    """The engine or server that answers died or fell silent; it can be started again, and what was finished is kept."""


class ConservationError(FactoryError):
    """A shard lost or invented rows: slots in differ from kept + rejected + failed. The shard is not committed."""


class ShardFailed(FactoryError):
    """One shard of a step crashed. The others finished; the same command tries the failed ones again."""


class TooManyFailures(FactoryError):
    """More rows failed than `max_failed` allows."""


class TrainerFailed(FactoryError):
    """A trainer's process died or left no result; the message ends with the tail of its log."""


class GateNotMet(FactoryError):
    """A gate or a quota said stop; later steps are skipped."""

    exit_code = 3


class Interrupted(FactoryError):
    """SIGINT or SIGTERM arrived: what was in flight has been kept, the same command goes on from here."""

    exit_code = 130
