"""Loading and unloading LoRA adapters, as vLLM 0.32 does when it is started with runtime updates allowed. Pure."""

from __future__ import annotations

from typing import Any

from loadtests.sim.simpod.errors import ApiError
from loadtests.sim.simpod.script import PodSpec


def load(given: Any, spec: PodSpec) -> tuple[PodSpec, bytes]:
    """POST /v1/load_lora_adapter: the pod with one adapter more, and the answer."""
    name, path = _field(given, "lora_name"), _field(given, "lora_path")
    if name in spec.models:
        message = f"The lora adapter '{name}' has already been loaded. If you want to load the adapter in place, set "
        raise ApiError(400, f"{message}'load_inplace' to True.", "InvalidUserInput")
    grown = spec._replace(models=(*spec.models, name), adapters={**spec.adapters, name: path})
    return grown, f"Success: LoRA adapter '{name}' added successfully.".encode()


def unload(given: Any, spec: PodSpec) -> tuple[PodSpec, bytes]:
    """POST /v1/unload_lora_adapter: the pod without the adapter, and the answer."""
    name = _field(given, "lora_name")
    if name not in spec.adapters:
        raise ApiError(404, f"The lora adapter '{name}' cannot be found.", "NotFoundError")
    left = {each: path for each, path in spec.adapters.items() if each != name}
    models = tuple(model for model in spec.models if model != name)
    return spec._replace(models=models, adapters=left), f"Success: LoRA adapter '{name}' removed successfully.".encode()


def _field(given: Any, name: str) -> str:
    value = given.get(name) if isinstance(given, dict) else None
    if not isinstance(value, str) or not value:
        raise ApiError(
            400, f"Both 'lora_name' and 'lora_path' must be provided; {name!r} is missing.", "InvalidUserInput"
        )
    return value
