"""Which pods a `kubernetes://` URL selects, and the errors for an invalid one."""

from __future__ import annotations

import pytest

from statesync.discovery.kubernetes.target import KubernetesTarget, target_of
from statesync.errors import DiscoveryError
from tests.fakes.each_case import each_case


@each_case(
    ("url", "target"),
    [
        ("kubernetes://llm?selector=app=vllm", KubernetesTarget(("llm",), "app=vllm")),
        (
            "kubernetes://llm?selector=app%3Dvllm%2Ctier%3Da&port=8000",
            KubernetesTarget(("llm",), "app=vllm,tier=a", "", "8000"),
        ),
        ("kubernetes://a,b?selector=gpu", KubernetesTarget(("a", "b"), "gpu")),
        ("kubernetes://*?selector=!cpu", KubernetesTarget(("*",), "!cpu")),
        (
            "kubernetes://?selector=app in (vllm, sglang)&port=http",
            KubernetesTarget((), "app in (vllm, sglang)", "", "http"),
        ),
        (
            "kubernetes://llm/?selector=x!=y&context=east&kubeconfig=%2Fetc%2Fk&relist_s=60",
            KubernetesTarget(("llm",), "x!=y", "", "", "east", "/etc/k", 60.0),
        ),
        ("kubernetes+service://llm/vllm?port=http", KubernetesTarget(("llm",), "", "vllm", "http")),
        ("kubernetes+service://vllm", KubernetesTarget((), "", "vllm")),
    ],
)
def test_a_url_selects_pods(url: str, target: KubernetesTarget) -> None:
    assert target_of(url) == target


@each_case(
    "selector",
    [
        "app.kubernetes.io/name=vllm",
        "a==b",
        "a=",
        "tier notin (x,y),gpu,!cpu",
        "llm-d.ai/role in (decode, prefill-decode),llm-d.ai/inferenceServing=true",
        "generation>3",
    ],
)
def test_selectors_have_the_syntax_of_kubectl(selector: str) -> None:
    assert target_of(f"kubernetes://llm?selector={selector}").selector == selector


@each_case(
    ("url", "words"),
    [
        ("kubernetes://llm", "which pods"),
        ("kubernetes://llm?selector=", "which pods"),
        ("kubernetes://LLM?selector=a", "'LLM' is no namespace's name"),
        ("kubernetes://a,a?selector=x", "listed twice"),
        ("kubernetes://a,?selector=x", "'' is no namespace's name"),
        ("kubernetes://*,a?selector=x", "write it alone"),
        ("kubernetes://llm?selector=app=vllm&selector=b", "given twice"),
        ("kubernetes://llm?label=app", "unknown parameter 'label'; there are selector, port"),
        ("kubernetes://llm?selector=app=a b", "'app=a b' is no label requirement"),
        ("kubernetes://llm?selector=app in vllm", "is no label requirement"),
        ("kubernetes://llm?selector=a,,b", "'' is no label requirement"),
        ("kubernetes://llm?selector=-a=b", "'-a' is no label's name"),
        ("kubernetes://llm?selector=a=-b", "'-b' is no label's value"),
        ("kubernetes://llm?selector=A_B/c=d", "'A_B' is no prefix of a label"),
        ("kubernetes://llm?selector=" + "a" * 64, "is no label's name"),
        ("kubernetes://llm?selector=a&port=0", "neither a port number nor a port's name"),
        ("kubernetes://llm?selector=a&port=65536", "neither a port number nor a port's name"),
        ("kubernetes://llm?selector=a&port=HTTP", "neither a port number nor a port's name"),
        ("kubernetes://llm?selector=a&relist_s=soon", "a number of seconds, not 'soon'"),
        ("kubernetes://llm?selector=a&relist_s=1", "at least 10 seconds, not 1"),
        ("kubernetes://llm?selector=a&relist_s=nan", "at least 10 seconds"),
        ("kubernetes+service://", "which Service"),
        ("kubernetes+service://*/vllm", "in one namespace"),
        ("kubernetes+service://llm/v_llm", "'v_llm' is no Service's name"),
        ("kubernetes+service://a/b/c", "'a/b' is no namespace's name"),
        ("kubernetes+service://llm/vllm?selector=a", "its own selector"),
    ],
)
def test_an_error_names_the_url(url: str, words: str) -> None:
    with pytest.raises(DiscoveryError, match=words) as caught:
        target_of(url)
    assert url in str(caught.value)


def test_each_namespace_is_read_and_none_means_the_gateways_own() -> None:
    assert target_of("kubernetes://a,b?selector=x").places == ("a", "b")
    assert target_of("kubernetes://?selector=x").places == ("",)
