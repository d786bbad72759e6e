"""Models in Triton, files that settings name, and the Secrets of certificates."""

from __future__ import annotations

from collections.abc import Iterator

from deploy.checks.cluster import Cluster, Pod
from deploy.checks.facts import Facts
from deploy.checks.running import TRITON, services_of

_TLS_KEYS = ("tls.crt", "tls.key", "ca.crt")


def triton_agrees(cluster: Cluster, facts: Facts) -> Iterator[str]:
    """Triton loads models that its repository has, and services ask for models that it loads."""
    loaded: dict[str, set[str]] = {}
    for pod in cluster.pods:
        if pod.container.command != (TRITON,):
            continue
        given = dict(
            argument.removeprefix("--").split("=", 1)
            for argument in pod.container.arguments
            if not argument.startswith("--load-model")
        )
        folder = given["model-repository"].removeprefix("/text4seg/")
        models = {
            each.partition("=")[2] for each in pod.container.arguments if each.startswith("--load-model=")
        }
        loaded[pod.name] = models
        for model in sorted(models - facts.triton_models.get(folder, frozenset())):
            yield f"{pod.name}: {folder} has no model {model}"
        for model in sorted(models & facts.vllm_weights.keys()):
            yield from _file(cluster, pod, facts.vllm_weights[model], _listed_weights(cluster))
        pause = float(pod.container.body["lifecycle"]["preStop"]["exec"]["command"][-1])
        if pod.body["terminationGracePeriodSeconds"] < pause + float(given["exit-timeout-secs"]):
            yield f"{pod.name}: it is killed before its calls are over"
    for name, choice in (("generator", "ENGINE"), ("refiner", "MODEL")):
        asking, prefix = cluster.pod(name), facts.services[name].prefix
        if asking is None or asking.container.variables.get(prefix + choice) != "triton":
            continue
        server = asking.container.variables.get(f"{prefix}TRITON_URL", "").partition(":")[0]
        model = asking.container.variables.get(f"{prefix}TRITON_MODEL", "")
        if model not in loaded.get(server, set()):
            yield f"{name}: {server or 'Triton'} does not load the model {model}"


def files_agree(cluster: Cluster, facts: Facts) -> Iterator[str]:
    """Files that settings name are mounted, and come from somewhere."""
    listed = _listed_weights(cluster)
    for _, pod in services_of(cluster, facts):
        for variable, value in pod.container.variables.items():
            if not value.startswith("/"):
                continue
            for path in value.split(","):
                yield from (f"{variable}: {problem}" for problem in _file(cluster, pod, path, listed))


def _file(cluster: Cluster, pod: Pod, path: str, listed: str) -> Iterator[str]:
    mounts = [mount for mount in pod.container.mounts if path.startswith(f"{mount}/")]
    if not mounts:
        yield f"{pod.name}: {path} is on no volume"
        return
    mount = max(mounts, key=len)
    volume, inner = pod.container.mounts[mount], path.removeprefix(f"{mount}/")
    if "persistentVolumeClaim" in volume and f'"{inner}' not in listed:
        yield f"{pod.name}: weights.json does not bring {path}"
    if "secret" in volume:
        yield from _certificate(cluster, pod, volume["secret"]["secretName"], inner)


def _listed_weights(cluster: Cluster) -> str:
    data = (each.get("data", {}) for each in cluster.of_kind("ConfigMap"))
    return next((each["weights.json"] for each in data if "weights.json" in each), "")


def _certificate(cluster: Cluster, pod: Pod, secret: str, key: str) -> Iterator[str]:
    if key not in _TLS_KEYS:
        yield f"{pod.name}: cert-manager writes no {key}"
    made = [each for each in cluster.of_kind("Certificate") if each["spec"]["secretName"] == secret]
    if not made:
        yield f"{pod.name}: no Certificate makes the Secret {secret}"
    elif pod.name not in made[0]["spec"]["dnsNames"]:
        yield f"{pod.name}: the Certificate of {secret} does not name it"
