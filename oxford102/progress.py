"""What an earlier run finished: a small file in the data folder, so that a half-done step never counts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from oxford102.errors import ToolError
from oxford102.files import write_whole


class Progress:
    """The steps that are done, each with a fingerprint of what it was made from ("" while under way)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            content = json.loads(path.read_text())
        except (FileNotFoundError, ValueError):
            content = {}
        self.steps: dict[str, str] = content if isinstance(content, dict) else {}

    def once(self, output: Path, made_from: str, present: bool, work: Callable[[], None]) -> None:
        """Do the step that makes `output`, unless it was finished from the same and is still `present`.

        Raises ToolError where a folder of somebody else stands in the way.
        """
        step = output.name
        if present and self.steps.get(step) == made_from:
            print(f"{output}: already there")
            return
        if output.is_dir() and step not in self.steps:
            raise ToolError(f"{output} is in the way, not made by this command; move it or choose another --data")
        self._note(step, "")
        work()
        self._note(step, made_from)

    def _note(self, step: str, made_from: str) -> None:
        self.steps[step] = made_from
        write_whole(self.path, json.dumps(self.steps, indent=2).encode())
