"""The gateway: data plane, control plane, telemetry and the process around them."""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("turnout")
except PackageNotFoundError:  # run from a source tree that was never installed
    __version__ = "0+unknown"
