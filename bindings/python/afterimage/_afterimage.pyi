from os import PathLike
from typing import Callable, List, Optional, Tuple, Union

__version__: str

class AfterimageError(Exception):
    message: str
    hint: Optional[str]

class RequestError(AfterimageError): ...
class PlanError(AfterimageError): ...
class ModelError(AfterimageError): ...
class FileError(AfterimageError): ...
class DeviceError(AfterimageError): ...
class Cancelled(AfterimageError): ...

class Finished:
    frames: int
    size: Tuple[int, int]
    recipe: str
    report: str
    def __len__(self) -> int: ...
    def pixels(self, index: int) -> bytes: ...
    def values(self) -> bytes: ...
    def save(self, item: int, path: Union[str, "PathLike[str]"], alone: bool = ...) -> None: ...

class Engine:
    model: str
    device: str
    def __init__(self, recipe: str, device: str, warn: Optional[Callable[[str], object]] = ...) -> None: ...
    def run(
        self,
        recipe: str,
        progress: Optional[Callable[[int, int, bool], object]] = ...,
        preview: Optional[Callable[[int, int, int, bytes], object]] = ...,
        preview_every: int = ...,
        preview_decoded: bool = ...,
        warn: Optional[Callable[[str], object]] = ...,
    ) -> Finished: ...
    def calibrate(
        self,
        recipe: str,
        rules: List[str],
        prompts: List[str],
        seeds: List[int],
        gap: int,
        quick: bool,
        output: str,
        progress: Optional[Callable[[int, int, bool], object]] = ...,
        warn: Optional[Callable[[str], object]] = ...,
    ) -> Optional[str]: ...

class Evaluation:
    batches: int
    def __init__(
        self,
        engine: Engine,
        recipe: str,
        rules: List[str],
        samples: int,
        seed: int,
        prompts: Optional[List[str]] = ...,
        peers: List[str] = ...,
        converged: Optional[int] = ...,
    ) -> None: ...
    def fill(
        self,
        folder: str,
        shard: str,
        progress: Optional[Callable[[int, int, bool], object]] = ...,
        warn: Optional[Callable[[str], object]] = ...,
    ) -> Tuple[int, int]: ...

def measured(
    folders: List[str],
    output: str,
    device: str,
    lpips: Optional[str] = ...,
    classifier: Optional[str] = ...,
    data: Optional[str] = ...,
    shapes: bool = ...,
    clip: Optional[str] = ...,
) -> str: ...

def plan(recipe: str, warn: Optional[Callable[[str], object]] = ...) -> str: ...
def check(recipe: str) -> None: ...
def devices() -> List[Tuple[str, str]]: ...
