"""A step of the decoder in C++, called through ctypes: one source, built for three kinds of processor.

Optional: where none can be built, the decoder runs in torch. The rest is in pyproject.toml.
"""

from glob import glob

from setuptools import Extension, setup

FOLDER = "src/troth/serve/engine/cpu/native"
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
AVX512 = [*AVX2, "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vnni", "-mavx512bf16"]

setup(
    ext_modules=[
        Extension(
            f"troth.serve.engine.cpu._kernels_{name}",
            sources=[f"{FOLDER}/library.cpp"],
            depends=sorted(glob(f"{FOLDER}/*.h")),
            extra_compile_args=["-std=c++20", "-O3", "-pthread", *flags],
            extra_link_args=["-pthread"],
            language="c++",
            optional=True,
        )
        for name, flags in (("avx512", AVX512), ("avx_vnni", [*AVX2, "-mavxvnni"]), ("avx2", AVX2))
    ]
)
