"""pyproject.toml says what the wheel is. This makes its bytes the same whatever the umask of whoever builds it."""

from __future__ import annotations

import os
from typing import Any

from setuptools import setup
from wheel.bdist_wheel import bdist_wheel


class Wheel(bdist_wheel):
    def write_wheelfile(self, *arguments: Any, **keywords: Any) -> None:
        """The last step before the directory is archived, with the modes that its files have."""
        super().write_wheelfile(*arguments, **keywords)
        for directory, _, files in os.walk(self.bdist_dir):
            for name in files:
                os.chmod(os.path.join(directory, name), 0o644)


setup(cmdclass={"bdist_wheel": Wheel})
