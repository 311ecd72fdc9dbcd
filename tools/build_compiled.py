"""A build hook of hatchling: compile the modules in which a decode spends its time, by mypyc.

It is off by default; a compiler is needed. The text of the modules is the same, and what is
compiled is in the wheel beside it, so that Python takes it first. Turn it on by

    HATCH_BUILD_HOOK_ENABLE_CUSTOM=true pip install .
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CompiledBuildHook(BuildHookInterface[Any]):
    """Adds the compiled modules that pyproject.toml lists to a wheel."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and say where the results belong."""
        if version == "editable":
            return
        # mypyc puts what it makes beside the modules, so it works on a copy; it is removed with the build.
        self._directory = tempfile.mkdtemp(prefix="ekvdump-compiled.")
        for package in self.build_config.packages:
            shutil.copytree(Path(self.root, package), Path(self._directory, Path(package).name))
        command = [sys.executable, "-m", "mypyc", *self.config["modules"]]
        subprocess.run(command, cwd=self._directory, check=True, stdout=sys.stderr, env=os.environ | {"MYPYPATH": "."})
        for library in Path(self._directory).rglob("*.so"):
            place = library.relative_to(self._directory)
            if place.parts[0] != "build":
                build_data["force_include"][str(library)] = str(place)
        build_data["pure_python"] = False
        build_data["infer_tag"] = True

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        """Remove the copy."""
        if hasattr(self, "_directory"):
            shutil.rmtree(self._directory)
