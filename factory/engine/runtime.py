"""`runtime`: how a step is run. None of it is identity; changing any of it redoes nothing."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from factory.models.runtime import ModelRuntime


class StepRuntime(BaseModel):
    """Settings of one step's running.

    `model` holds settings of the model backend (`backend`, `device`, `dtype`, …); `batch` overrides its batch size.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    batch: int | None = Field(None, ge=1, description="answers written at once")
    shard_rows: int = Field(2048, ge=1, description="input rows per shard of a step that creates "
                            "rows; rows that a score which asks a model looks at together")
    max_failed: float = Field(0.05, ge=0, le=1, description="share of slots that may fail before the step does")
    memory: int = Field(512, ge=16, description="MB that a step which puts rows together (dedup) may hold beside "
                        "what it keeps of each row; the rest goes to a scratch folder")
    processes: int = Field(0, ge=0, description="processes that pump a model (0: as many as the backend allows)")
    model: ModelRuntime = Field(default_factory=ModelRuntime, description="settings of the model backend")

    @property
    def backend(self) -> ModelRuntime:
        """The backend's settings with this step's batch size."""
        return self.model if self.batch is None else self.model.model_copy(update={"batch": self.batch})
