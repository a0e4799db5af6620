"""The samplers of diffusers that render deterministically."""

from typing import Any

from diffusers import DDIMScheduler, DPMSolverMultistepScheduler, EulerDiscreteScheduler

from storyreel.stages.models.config import SchedulerConfig

SCHEDULERS = {
    "ddim": DDIMScheduler,
    "dpmsolver++": DPMSolverMultistepScheduler,
    "euler": EulerDiscreteScheduler,
}


def build_scheduler(config: SchedulerConfig, pretrained: Any) -> Any:
    """A fresh scheduler with the noise schedule of `pretrained`, unless `config` states its own."""
    return SCHEDULERS[config.name].from_config(pretrained.config, **config.options())
