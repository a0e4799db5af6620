"""Splits stories into storyboards without a chat model, to count what a job consists of."""

from storyreel.flows.job.config import RenderConfig
from storyreel.flows.job.stage_table import StageTable
from storyreel.flows.job.stages import STAGES
from storyreel.flows.plans.plan import Split


def rule_splitter(config: RenderConfig, stages: StageTable = STAGES) -> Split:
    """Return the first stage of a job, constructed in this process.

    The configured chat model is left out, so that no weights are loaded here. The rules split a
    story into the same number of panels.
    """
    prompts = config.prompts.model_copy(update={"chat": None})
    without_chat = config.model_copy(update={"prompts": prompts})
    split: Split = stages.specs[0].factory("", without_chat)()
    return split
