"""Compile `retraining` for a Kubernetes stack that nobody runs, and print its manifests as JSON on the last line.

ZenML's orchestrator makes the CronJob itself. It makes the Jobs of the steps inside the cluster, in a function that
cannot be called elsewhere: here they are made by the same builders from the same settings.
"""

import json
from pathlib import Path
from typing import Any

from pipelines.settings import prepare_environment

prepare_environment()

from kubernetes.client import ApiClient  # noqa: E402 after ZenML's environment is made
from zenml.client import Client  # noqa: E402
from zenml.entrypoints import StepEntrypointConfiguration  # noqa: E402
from zenml.enums import StackComponentType as Kind  # noqa: E402
from zenml.integrations.kubernetes import manifest_utils  # noqa: E402
from zenml.integrations.kubernetes.kube_utils import sanitize_label  # noqa: E402
from zenml.integrations.kubernetes.orchestrators import KubernetesOrchestrator  # noqa: E402

from pipelines.training import retraining  # noqa: E402
from tests.pipelines.toy import ROOT  # noqa: E402

SETTINGS = ROOT / "pipelines/stacks/kubernetes.yaml"
IMAGE = "registry.example.com/team/mobile-centernet:commit"


def make_stack(client: Any) -> Any:
    parts = {
        Kind.ORCHESTRATOR: ("k8s", "kubernetes", {"kubernetes_context": "prod", "kubernetes_namespace": "mobile"}),
        Kind.CONTAINER_REGISTRY: ("images", "default", {"uri": "registry.example.com/team"}),
        Kind.IMAGE_BUILDER: ("local", "local", {}),
    }
    for kind, (name, flavor, configuration) in parts.items():
        client.create_stack_component(name=name, flavor=flavor, component_type=kind, configuration=configuration)
    client.create_stack("k8s", {Kind.ARTIFACT_STORE: "default", **{kind: part[0] for kind, part in parts.items()}})
    client.activate_stack("k8s")
    return client.active_stack.orchestrator


def cron_job(orchestrator: KubernetesOrchestrator, snapshot: Any, schedule: Any) -> Any:
    settings = orchestrator.get_settings(snapshot)
    job = orchestrator._prepare_job_manifest(
        name="retraining",
        command=["python"],
        args=["-m", "zenml"],
        image=IMAGE,
        environment={},
        labels={},
        annotations={},
        settings=settings,
        pod_settings=settings.orchestrator_pod_settings,
        backoff_limit=settings.orchestrator_job_backoff_limit,
    )
    return manifest_utils.build_cron_job_manifest(
        job_template=manifest_utils.job_template_manifest_from_job(job),
        cron_expression=schedule.cron_expression,
        successful_jobs_history_limit=settings.successful_jobs_history_limit,
        failed_jobs_history_limit=settings.failed_jobs_history_limit,
        concurrency_policy=settings.concurrency_policy,
        starting_deadline_seconds=settings.starting_deadline_seconds,
    )


def step_job(orchestrator: KubernetesOrchestrator, name: str, step: Any) -> Any:
    settings = orchestrator.get_settings(step)
    pod = manifest_utils.build_pod_manifest(
        pod_name=None,
        image_name=IMAGE,
        command=StepEntrypointConfiguration.get_entrypoint_command(),
        args=["--step_name", name],
        privileged=settings.privileged,
        pod_settings=settings.pod_settings,
        service_account_name=settings.step_pod_service_account_name or settings.service_account_name,
        termination_grace_period_seconds=settings.pod_stop_grace_period,
    )
    job = manifest_utils.build_job_manifest(
        job_name=sanitize_label(name),
        pod_template=manifest_utils.pod_template_manifest_from_pod(pod),
        backoff_limit=(step.config.retry.max_retries if step.config.retry else 0) + settings.backoff_limit_margin,
        ttl_seconds_after_finished=settings.ttl_seconds_after_finished,
        active_deadline_seconds=settings.active_deadline_seconds,
    )
    job.api_version, job.kind = "batch/v1", "Job"
    return job


found = make_stack(Client())
pipeline = retraining.copy()
pipeline.prepare(True)
compiled, its_schedule, _ = pipeline._compile(config_path=str(SETTINGS))
plain = ApiClient().sanitize_for_serialization
document = {
    "cron_job": plain(cron_job(found, compiled, its_schedule)),
    "jobs": {name: plain(step_job(found, name, step)) for name, step in compiled.step_configurations.items()},
    "upstream": {name: sorted(step.spec.upstream_steps) for name, step in compiled.step_configurations.items()},
    "docker": compiled.pipeline_configuration.docker_settings.model_dump(mode="json"),
    "store": str(Path(Client().zen_store.url)),
}
print(json.dumps(document))
