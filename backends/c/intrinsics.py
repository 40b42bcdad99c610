"""The headers of vector intrinsics."""

from __future__ import annotations

NEON = "#include <arm_neon.h>"

_AVX2 = ("xmmintrin", "emmintrin", "pmmintrin", "tmmintrin", "smmintrin", "avxintrin", "avx2intrin", "fmaintrin", "f16cintrin")
_AVX512 = ("avx512fintrin", "avx512cdintrin", "avx512vlintrin", "avx512bwintrin", "avx512dqintrin", "avx512vlbwintrin", "avx512vldqintrin",
           "avx512vbmiintrin", "avx512vbmivlintrin", "avx512vnniintrin", "avx512vnnivlintrin", "avx512bf16vlintrin", "avx512bf16intrin")


def avx(*, wide: bool) -> str:
    """Those of AVX2, or of AVX-512 too.

    immintrin.h of gcc 12 takes 0.5 s, more than most files of kernels take otherwise; the parts that kernels use take 0.06 s, and
    with AVX-512 0.2 s. Only compilers whose parts are known to have these names and to stand alone get them one by one.
    """
    parts = "\n".join(f"#include <{name}.h>" for name in (*_AVX2, *(_AVX512 if wide else ())))
    return ("#if defined(__GNUC__) && !defined(__clang__) && !defined(__INTEL_COMPILER) && __GNUC__ >= 11 && __GNUC__ <= 13\n"
            "/* What kernels use of immintrin.h, which takes long to read as a whole. */\n"
            f"#define _IMMINTRIN_H_INCLUDED\n{parts}\n#else\n#include <immintrin.h>\n#endif")
