"""Installation of speechbrain_attn."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(
    r'^__version__ = "(.+)"$',
    (HERE / "speechbrain_attn" / "__init__.py").read_text(encoding="utf-8"),
    re.MULTILINE,
).group(1)

EXTRAS = {
    "cli": ["typer>=0.17.5"],
    "demo": ["espeakng-loader>=0.2"],
    "index": ["faiss-cpu>=1.9"],
    "m4a": ["av>=12"],
    "onnx": ["onnx>=1.17", "onnxruntime>=1.20", "onnxscript>=0.6"],
    "plots": ["matplotlib>=3.7"],
    "tensorboard": ["tensorboard>=2.14"],
}
EXTRAS["dev"] = sorted(
    [
        "hypothesis>=6.100",
        "kaldi-native-fbank>=1.20",
        "pytest>=8",
        "pytest-xdist>=3.5",
        "ruff>=0.12",
        "scikit-learn>=1.4",
        "sherpa-onnx>=1.12",
        "webdataset>=0.2.90",
    ]
    + [need for needs in EXTRAS.values() for need in needs]
)

setup(
    name="speechbrain_attn",
    version=VERSION,
    description="Attentive speaker embeddings as SpeechBrain lobes",
    long_description=(HERE / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    python_requires=">=3.10",
    packages=find_packages(include=["speechbrain_attn*"]),
    install_requires=[
        "filelock>=3.14",
        "huggingface_hub>=0.25",
        "hyperpyyaml>=1.2.2",
        "numpy>=1.26",
        "pyyaml>=6",
        "ruamel.yaml>=0.17.28",
        "safetensors>=0.4",
        "scipy>=1.12",
        "sentencepiece>=0.2",
        "soundfile>=0.12",
        "soxr>=0.3",
        "speechbrain>=1.1,<1.2",
        # Older torchaudio builds fit one torch release only.
        "torch>=2.11",
        "torchaudio>=2.11",
        "tqdm>=4.60",
    ],
    extras_require=EXTRAS,
    entry_points={
        "console_scripts": ["speechbrain-attn = speechbrain_attn.cli:main"]
    },
)
