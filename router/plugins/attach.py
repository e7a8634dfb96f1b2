"""Plugins joined to the gateway around them: its settings, its catalog, its policy switch, its requests."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, MutableMapping

from router.plugins.registry import PluginRegistry
from router.plugins.samples import Samples
from router.plugins.watchdog import watched
from router.plugins.watcher import PluginWatcher
from router.policy.controller import PolicyController
from router.settings import Settings
from schedulers import registry
from schedulers.protocols import Scheduler


class AttachedPlugins:
    """What a replica has of plugins; next to nothing where none are configured."""

    def __init__(self, settings: Settings) -> None:
        """Takes a first look, so that the pools' policies can be among what it finds: seconds, if there is anything."""
        self._stuck_s = settings.policy_guard.stuck_s
        self._policies: PolicyController | None = None
        self._by_name: MutableMapping[str, Scheduler] = {}
        self._create: Callable[[str], Scheduler] = self.create
        self.samples: Samples | None = None
        """For the data plane to fill; None where nobody would look at them."""
        self._watcher: PluginWatcher | None = None
        self._shown = {"directory": "", "entry_points": list(settings.plugins.entry_points), "plugins": []}
        if settings.plugins.directory:
            self.samples = Samples()
            plugin_registry = PluginRegistry(self._in_use, self._offered, self._withdrawn)
            self._watcher = PluginWatcher(settings.plugins, plugin_registry, self.samples.recent)
            self._watcher.look_first()

    def create(self, name: str, params: Mapping[str, object] | None = None) -> Scheduler:
        """As the registry does, and watched where it is not one of the gateway's own. Raises SchedulerError."""
        scheduler = registry.create(name, params)
        return scheduler if registry.is_built_in(name) else watched(scheduler, self._stuck_s)

    def join(
        self, policies: PolicyController, create: Callable[[str], Scheduler], by_name: MutableMapping[str, Scheduler]
    ) -> None:
        """Whom names that come and go concern from now on. `by_name` is kept up with them."""
        self._policies, self._create, self._by_name = policies, create, by_name

    async def run(self) -> None:
        """Keep in step with the directory, if there is one."""
        if self._watcher is not None:
            await self._watcher.run()

    def shown(self) -> Mapping[str, object]:
        """As `GET /admin/plugins` answers it."""
        return self._watcher.shown() if self._watcher is not None else self._shown

    def _in_use(self) -> Collection[str]:
        return self._policies.mentioned if self._policies is not None else ()

    def _offered(self, name: str) -> None:
        if self._policies is not None:
            self._by_name[name] = self._create(name)
            self._policies.retry()

    def _withdrawn(self, name: str) -> None:
        self._by_name.pop(name, None)
