"""A step of the decoder in C++, called through ctypes: one source, built for the kinds of this machine's processors.

Optional: where none can be built, the decoder runs in torch. The rest is in pyproject.toml.
"""

import os
import platform
import sys
from copy import copy
from glob import glob

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

FOLDER = "src/troth/serve/engine/cpu/native"
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq"]
AVX512_VNNI, AVX_VNNI = [*AVX512, "-mavx512vnni"], [*AVX2, "-mavxvnni"]
X86 = ("avx512_vnni", AVX512_VNNI), ("avx512", AVX512), ("avx_vnni", AVX_VNNI), ("avx2", AVX2)
ARM = ("neon_dotprod", ["-march=armv8.2-a+dotprod"]), ("neon", ["-march=armv8-a"])

# Python for macOS may be for two architectures, and compiles for both where none is named.
ARCHITECTURE = ["-arch", platform.machine()] if sys.platform == "darwin" else []



class BuildEach(build_ext):
    """All at once, the object files of each in a folder of its own: they have one name."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def build_extension(self, ext: Extension) -> None:
        one = copy(self)
        one.build_temp = os.path.join(self.build_temp, ext.name)
        build_ext.build_extension(one, ext)


setup(
    cmdclass={"build_ext": BuildEach},
    ext_modules=[
        Extension(
            f"troth.serve.engine.cpu._kernels_{name}",
            sources=[f"{FOLDER}/library.cpp"],
            depends=sorted(glob(f"{FOLDER}/*.h")),
            extra_compile_args=["-std=c++20", "-O3", "-g0", "-pthread", *flags, *ARCHITECTURE],
            extra_link_args=["-pthread", *ARCHITECTURE],
            language="c++",
            optional=True,
        )
        for name, flags in (ARM if platform.machine() in ("aarch64", "arm64") else X86)
    ]
)
