"""A directory as Kubernetes mounts a ConfigMap: files are links through `..data`, which is swapped in one rename."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from itertools import count
from pathlib import Path


class Mount:
    """One mounted ConfigMap."""

    def __init__(self, at: Path, files: Mapping[str, str]) -> None:
        """Mount it with these files."""
        self._at = at
        self._turn = count()
        self.swap(files)

    def swap(self, files: Mapping[str, str]) -> None:
        """Replace the files as the kubelet does when the ConfigMap has changed."""
        fresh = self._at / f"..2026_01_01_00_00_0{next(self._turn)}.1"
        fresh.mkdir()
        for name, text in files.items():
            (fresh / name).write_text(text)
            os.utime(fresh / name, (0, 0))  # all versions have the same mtime
        old = os.readlink(self._at / "..data") if (self._at / "..data").is_symlink() else None
        (self._at / "..data_tmp").symlink_to(fresh.name)
        (self._at / "..data_tmp").rename(self._at / "..data")
        for name in files:
            if not (self._at / name).is_symlink():
                (self._at / name).symlink_to(f"..data/{name}")
        for link in self._at.glob("[!.]*"):
            if link.name not in files:
                link.unlink()
        if old is not None:
            shutil.rmtree(self._at / old)
