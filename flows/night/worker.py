"""The worker of `storyreel serve`: it runs our two flows, whatever a deployment or a run says.

Whoever knows the server's password can create deployments with commands, entry points, pull steps
and environment variables of their own. Prefect's process worker would execute them; this one takes
from a run its parameters only.
"""

import asyncio
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import TaskStatus
from prefect import Flow
from prefect.client.schemas.objects import FlowRun
from prefect.runner._flow_run_executor import (
    FlowRunExecutionResult,
    FlowRunExecutor,
    FlowRunExecutorContext,
)
from prefect.runner._process_manager import ProcessHandle
from prefect.runner._starter_engine import EngineCommandStarter
from prefect.utilities.processutils import command_to_string, setup_signal_handlers_worker
from prefect.workers.process import (
    ProcessJobConfiguration,
    ProcessWorker,
    ProcessWorkerResult,
)

from storyreel.flows.night.deployment import job, night
from storyreel.flows.night.work_pool import POOL

FLOWS: dict[str, Flow[..., Any]] = {flow.name: flow for flow in (job, night)}
"""The flows that are run, by their names."""


class _Configuration(ProcessJobConfiguration):
    """How a flow run is started; nothing of it comes from the deployment or the run."""

    def prepare_for_flow_run(self, flow_run: FlowRun, *arguments: Any, **more: Any) -> None:
        """Drop the job variables of deployment and run, and keep what Prefect itself adds."""
        self.command, self.env, self.name, self.labels = None, {}, None, {}
        self.working_dir, self.stream_output = None, True
        super().prepare_for_flow_run(flow_run, *arguments, **more)


class FixedWorker(ProcessWorker):
    """Runs the flows of `FLOWS` as processes, and refuses all other flow runs."""

    job_configuration = _Configuration

    async def run(
        self,
        flow_run: FlowRun,
        configuration: ProcessJobConfiguration,
        task_status: TaskStatus[int] | None = None,
    ) -> ProcessWorkerResult:
        """Run a flow run to its end in a process.

        Raises:
            PermissionError: it is of another flow; its state becomes Crashed with this message.
        """
        flow = await self._own_flow(flow_run)

        async def own_flow(_flow_run: FlowRun) -> Flow[..., Any]:
            return flow  # Prefect would load the deployment's code to look for hooks

        with tempfile.TemporaryDirectory(prefix="flow-run-") as folder:
            async with FlowRunExecutorContext() as context:
                starter = EngineCommandStarter(
                    command=_command(flow),
                    cwd=Path(folder),
                    env=configuration.env,
                    stream_output=True,
                    control_channel=context.control_channel,
                )
                executor = context.create_executor(
                    flow_run, starter, resolve_flow=own_flow, propose_submitting=False
                )
                execution = await _supervised(executor, task_status)
        if execution is None or execution.handle is None or execution.status_code is None:
            raise RuntimeError("the process of the flow run did not start")
        return ProcessWorkerResult(
            status_code=execution.status_code, identifier=str(execution.handle.pid)
        )

    async def _own_flow(self, flow_run: FlowRun) -> Flow[..., Any]:
        name = (await self.client.read_flow(flow_run.flow_id)).name
        if name not in FLOWS:
            raise PermissionError(f"flow {name!r}: must be one of {', '.join(FLOWS)}")
        return FLOWS[name]


async def _supervised(
    executor: FlowRunExecutor, task_status: TaskStatus[int] | None
) -> FlowRunExecutionResult | None:
    """Run a flow run to its end, after reporting the number of its process."""
    execution: FlowRunExecutionResult | None = None

    async def execute(*, task_status: TaskStatus[ProcessHandle]) -> None:
        nonlocal execution
        execution = await executor.submit(task_status=task_status)

    async with anyio.create_task_group() as group:
        handle = await group.start(execute)
        if task_status is not None:
            task_status.started(handle.pid)
    return execution


def _command(flow: Flow[..., Any]) -> str:
    entrypoint = f"{flow.fn.__module__}.{flow.fn.__name__}"
    return command_to_string([sys.executable, "-P", "-m", "prefect.flow_engine", entrypoint])


async def _work(name: str) -> None:
    worker = FixedWorker(work_pool_name=POOL, name=name, limit=1, create_pool_if_not_found=False)
    await worker.start()


def main() -> None:
    """Work until SIGINT or SIGTERM; the argument is the name that the UI shows."""
    setup_signal_handlers_worker(os.getpid(), "the worker", print)
    asyncio.run(_work(sys.argv[1]))


if __name__ == "__main__":
    main()
