# SPDX-License-Identifier: Apache-2.0
import base64
from typing import Any

from collector.cluster.api import ApiError
from overhop.cluster.install import apply, objects_of
from overhop.cluster.manifests import Wish, path_of, shown, wished
from tests.unit.overhop.cluster.memory_api import MemoryApi

SECRETS = [
    "secret/overhop-controller-tls",
    "configmap/overhop-ca",
    "secret/overhop-people",
    "secret/overhop-store",
]


def test_namespace_comes_first_then_secrets_then_what_reads_them() -> None:
    names = [shown(each) for each in objects_of(MemoryApi(), Wish("i"), b"token\n")]
    assert names[0] == "namespace/overhop"
    assert names[1:5] == SECRETS
    assert names[-2:] == ["daemonset/overhop-agent", "networkpolicy/overhop-controller"]


def test_secrets_that_are_there_stay() -> None:
    api = MemoryApi()
    apply(api, objects_of(api, Wish("i"), b"first"), lambda _: None)
    again = {shown(each) for each in objects_of(api, Wish("i"), None)}
    assert not again & set(SECRETS)


def test_store_token_is_replaced_where_a_new_one_is_given() -> None:
    api = MemoryApi()
    apply(api, objects_of(api, Wish("i"), b"first"), lambda _: None)
    apply(api, objects_of(api, Wish("i"), b"second\n"), lambda _: None)
    found = api.kept["/api/v1/namespaces/overhop/secrets/overhop-store"]
    assert base64.b64decode(found["data"]["token"]) == b"second"


def test_trial_influxdb_gets_a_token_of_its_own_once() -> None:
    api = MemoryApi()
    wish = Wish("i", has_influxdb=True)
    made = [each for each in objects_of(api, wish, None) if shown(each) == "secret/overhop-store"]
    assert len(base64.b64decode(made[0]["data"]["token"])) >= 32
    apply(api, made, lambda _: None)
    assert "secret/overhop-store" not in {shown(each) for each in objects_of(api, wish, None)}


def test_what_is_applied_is_said_without_its_data() -> None:
    api, said = MemoryApi(), list[str]()
    apply(api, objects_of(api, Wish("i"), b"very-secret"), said.append)
    assert said[4] == "secret/overhop-store: applied"
    assert "very-secret" not in " ".join(said)


def test_pods_are_replaced_where_what_they_read_at_start_changes() -> None:
    def digests(wish: Wish) -> dict[str, str]:
        found = {path_of(each): each for each in wished(wish)}
        paths = {
            "agents": "/apis/apps/v1/namespaces/overhop/daemonsets/overhop-agent",
            "controllers": "/apis/apps/v1/namespaces/overhop/deployments/overhop-controller",
        }
        meta = {name: found[path]["spec"]["template"]["metadata"] for name, path in paths.items()}
        return {name: each["annotations"]["overhop/config"] for name, each in meta.items()}

    before = digests(Wish("i"))
    other_store, other_policies = (
        digests(Wish("i", store="influxdb2://x:1/o")),
        digests(Wish("i", policies="# p")),
    )
    assert other_store["agents"] != before["agents"]
    assert other_store["controllers"] == before["controllers"]
    assert other_policies["controllers"] != before["controllers"]
    assert other_policies["agents"] == before["agents"]
    assert digests(Wish("another")) == before


class _ImmutableJobs(MemoryApi):
    """As the API server: what a Job runs cannot be changed."""

    def send(self, method: str, path: str, body: Any = None, **options: Any) -> dict[str, Any]:  # type: ignore[override]  # noqa: ANN401
        if method == "PATCH" and "/jobs/" in path and self.kept.get(path, body) != body:
            raise ApiError(422, "spec.template: field is immutable", path)
        return super().send(method, path, body, **options)


def test_job_of_an_upgrade_is_a_new_one() -> None:
    api = _ImmutableJobs()
    for image in ("i:1", "i:2"):
        apply(api, wished(Wish(image, has_influxdb=True)), lambda _: None)
    job = api.kept["/apis/batch/v1/namespaces/overhop/jobs/overhop-store-init"]
    assert job["spec"]["template"]["spec"]["containers"][0]["image"] == "i:2"
    assert [method for method, path in api.log if "/jobs/" in path] == ["PATCH", "DELETE", "PATCH"]
