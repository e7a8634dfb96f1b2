"""Values for the chart in deploy/helm/turnout that set every one of its options, in cases that make sense."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CASES: Mapping[str, Mapping[str, Any]] = {
    "nothing": {},
    "a registry of one's own": {
        "image": {
            "repository": "registry.example.com:5000/llm/turnout",
            "tag": "0.1.0-1",
            "pullSecrets": [{"name": "registry"}],
        },
        "fullnameOverride": "router",
        "podLabels": {"team": "search"},
        "podAnnotations": {"example.com/owner": "search"},
    },
    "an image by its digest": {"image": {"digest": f"sha256:{'0a' * 32}", "pullPolicy": "Always"}},
    "a Redis of one's own": {
        "replicas": 5,
        "config": {"state": "rediss://redis.data:6380/0"},
        "redis": {"enabled": False},
        "networkPolicy": {"redisPorts": [6380]},
        "secretName": "turnout-secrets",
    },
    "a larger Redis": {
        "redis": {
            "image": "docker.io/library/redis:8.0.1-alpine",
            "maxMemory": "3gb",
            "storage": {"size": "10Gi", "className": "fast"},
            "resources": {"requests": {"cpu": "500m"}, "limits": {"memory": "4Gi"}},
        }
    },
    "TLS and API keys": {
        "tls": {"secretName": "turnout-tls"},
        "authKeys": {"secretName": "turnout-keys"},
        "config": {"tenants": [{"name": "search", "weight": 2}]},
    },
    "client certificates, tokens and an audit log": {
        "tls": {"secretName": "turnout-tls"},
        "config": {
            "tls": {"client_ca_file": "/etc/turnout-tls/ca.crt"},
            "control": {
                "audit_file": "/var/log/turnout/audit.log",
                "tls": {"cert_file": "/etc/turnout-tls/tls.crt", "key_file": "/etc/turnout-tls/tls.key"},
                "metrics_auth": True,
                "tokens": [
                    {"name": "operator", "role": "operate", "token_env": "TURNOUT_CONTROL_TOKEN"},
                    {"name": "prometheus", "role": "read", "token_env": "PROMETHEUS_TOKEN"},
                ],
            },
        },
        "env": [
            {"name": "PROMETHEUS_TOKEN", "valueFrom": {"secretKeyRef": {"name": "turnout", "key": "control-token"}}}
        ],
        "volumes": [{"name": "audit", "emptyDir": {}}],
        "volumeMounts": [{"name": "audit", "mountPath": "/var/log/turnout"}],
        "monitoring": {
            "monitor": "PodMonitor",
            "labels": {"release": "prometheus"},
            "endpoint": {
                "interval": "30s",
                "scrapeTimeout": "5s",
                "authorization": {"credentials": {"name": "prometheus", "key": "token"}},
                "tlsConfig": {"insecureSkipVerify": True},
            },
        },
    },
    "two pools in other namespaces": {
        "config": {
            "listen": "0.0.0.0:8080",
            "pools": [
                {"name": "llama", "discovery": {"source": "kubernetes://llama?selector=app=vllm"}},
                {"name": "qwen", "discovery": {"source": "kubernetes://qwen?selector=app=vllm"}},
            ],
            "drain": {"settle_s": 20, "timeout_s": 600.5},
            "limits": {"max_body_bytes": 67108864},
        },
        "rbac": {"namespaces": ["llama", "qwen"]},
        "networkPolicy": {
            "egress": [{"to": [{"namespaceSelector": {"matchLabels": {"team": "models"}}}], "ports": [{"port": 8000}]}]
        },
    },
    "accounts and roles made by another team": {
        "serviceAccount": {"name": "router"},
        "rbac": {"create": False},
        "networkPolicy": {"enabled": False},
        "podDisruptionBudget": {"enabled": False},
    },
    "a load balancer and an ingress": {
        "serviceAccount": {"annotations": {"example.com/role": "router"}},
        "service": {"type": "LoadBalancer", "port": 80, "annotations": {"example.com/internal": "true"}},
        "ingress": {
            "enabled": True,
            "className": "nginx",
            "annotations": {"nginx.ingress.kubernetes.io/proxy-buffering": "off"},
            "hosts": ["llm.example.com", "*.llm.example.com"],
            "tlsSecretName": "llm-tls",
        },
    },
    "an ingress for every host": {"ingress": {"enabled": True}},
    "the Gateway API": {
        "httpRoute": {
            "enabled": True,
            "parentRefs": [{"name": "public", "namespace": "gateways", "sectionName": "https"}],
            "hostnames": ["llm.example.com"],
            "timeout": "1h",
        },
        "networkPolicy": {
            "clients": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "gateways"}}}],
            "monitoringNamespace": "observability",
            "engineLabels": {"app": "vllm"},
            "enginePort": 8001,
            "apiServer": ["10.0.0.1/32"],
        },
    },
    "replicas by load": {
        "autoscaling": {"enabled": True, "minReplicas": 3, "maxReplicas": 20, "cpuPercent": 50, "activeRequests": 200},
        "podDisruptionBudget": {"maxUnavailable": "25%"},
    },
    "replicas by CPU alone": {"autoscaling": {"enabled": True, "activeRequests": 0}},
    "engines by what waits for them": {
        "engineScaling": {
            "prometheus": "http://prometheus.observability:9090",
            "engines": [
                {
                    "pool": "default",
                    "apiVersion": "leaderworkerset.x-k8s.io/v1",
                    "kind": "LeaderWorkerSet",
                    "name": "vllm",
                    "minReplicas": 1,
                    "maxReplicas": 8,
                    "saturation": 0.7,
                    "backlogSeconds": 10,
                    "cooldownSeconds": 1800,
                },
                {"pool": "small", "kind": "Deployment", "name": "small", "maxReplicas": 2},
            ],
        }
    },
    "all that is for Prometheus and Grafana": {
        "monitoring": {"monitor": "ServiceMonitor", "alerts": True, "dashboard": True}
    },
    "nodes of their own": {
        "resources": {"requests": {"cpu": "2", "memory": "1Gi"}, "limits": {"memory": "4Gi"}},
        "priorityClass": {"name": "router", "value": 200000},
        "topologySpread": [
            {"topologyKey": "kubernetes.io/hostname", "maxSkew": 2, "whenUnsatisfiable": "DoNotSchedule"}
        ],
        "affinity": {"podAntiAffinity": {}},
        "nodeSelector": {"pool": "cpu"},
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
    },
}
"""Name -> values."""
