"""A step of the decoder in C++, called through ctypes: one source, built for the kinds of this machine's processors.

Optional: where none can be built, the decoder runs in torch. The rest is in pyproject.toml.
"""

import platform
import sys
from glob import glob

from setuptools import Extension, setup

FOLDER = "src/troth/serve/engine/cpu/native"
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni", "-mavx512bf16"]
X86 = ("avx512", AVX512), ("avx_vnni", [*AVX2, "-mavxvnni"]), ("avx2", AVX2)
ARM = ("neon_dotprod", ["-march=armv8.2-a+dotprod"]), ("neon", ["-march=armv8-a"])

# Python for macOS may be for two architectures, and compiles for both where none is named.
ARCHITECTURE = ["-arch", platform.machine()] if sys.platform == "darwin" else []

setup(
    ext_modules=[
        Extension(
            f"troth.serve.engine.cpu._kernels_{name}",
            sources=[f"{FOLDER}/library.cpp"],
            depends=sorted(glob(f"{FOLDER}/*.h")),
            extra_compile_args=["-std=c++20", "-O3", "-pthread", *flags, *ARCHITECTURE],
            extra_link_args=["-pthread", *ARCHITECTURE],
            language="c++",
            optional=True,
        )
        for name, flags in (ARM if platform.machine() in ("aarch64", "arm64") else X86)
    ]
)
