"""Builds the wheel for the image: without the sandbox and without the demo, which nobody needs in production."""

from __future__ import annotations

import os
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LEFT_OUT = ("broker/sandbox", "broker/cli/demo.py", "broker/cli/demo")


class ImageWheelHook(BuildHookInterface):  # type: ignore[type-arg]  # hatchling's generic is not ours to name
    """Leaves folders out when ARIES_BROKER_WHEEL is `image`; any other wheel is whole."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's signature
        """Exclude what the image does not need, before the files are looked for."""
        if os.environ.get("ARIES_BROKER_WHEEL") == "image":
            self.build_config.target_config.setdefault("exclude", []).extend(LEFT_OUT)
