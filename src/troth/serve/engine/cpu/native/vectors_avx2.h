// Sixteen numbers of 32 bit in two registers of AVX2, with products of bytes (AVX-VNNI) or without: what
// `vectors_avx512.h` says, operation by operation, and in sums over the sixteen in the same order.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace troth {

struct Floats {
    __m256 a, b;
};
struct Ints {
    __m256i a, b;
};
using Mask = Floats;

// There are 16 registers: two for every 16 outputs of a row, and some for what is multiplied.
constexpr int columns_at_once(int rows) { return rows == 1 ? 4 : rows <= 3 ? 2 : 1; }

inline Floats operator+(Floats x, Floats y) { return {_mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b)}; }
inline Floats operator-(Floats x, Floats y) { return {_mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b)}; }
inline Floats operator*(Floats x, Floats y) { return {_mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b)}; }
inline Floats operator/(Floats x, Floats y) { return {_mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b)}; }

inline Floats zeros() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
inline Floats broadcast(float x) { return {_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
inline Floats counted() {
    return {_mm256_setr_ps(0, 1, 2, 3, 4, 5, 6, 7), _mm256_setr_ps(8, 9, 10, 11, 12, 13, 14, 15)};
}
inline Floats load(const float *x) { return {_mm256_loadu_ps(x), _mm256_loadu_ps(x + 8)}; }
inline void store(float *to, Floats x) { _mm256_storeu_ps(to, x.a), _mm256_storeu_ps(to + 8, x.b); }

inline Floats fma(Floats x, Floats y, Floats z) {
    return {_mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b)};
}
inline Floats max(Floats x, Floats y) { return {_mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b)}; }
inline Floats min(Floats x, Floats y) { return {_mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b)}; }

inline Floats abs(Floats x) {
    const __m256 sign = _mm256_set1_ps(-0.f);
    return {_mm256_andnot_ps(sign, x.a), _mm256_andnot_ps(sign, x.b)};
}

inline Floats round(Floats x) {
    constexpr int nearest = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    return {_mm256_round_ps(x.a, nearest), _mm256_round_ps(x.b, nearest)};
}

// In two steps, for 2^-150 is no number of its own; beyond 2^254 all is infinite.
inline __m256 scale(__m256 x, __m256 whole) {
    const __m256i n = _mm256_cvtps_epi32(_mm256_min_ps(whole, _mm256_set1_ps(254.f)));
    const __m256i half = _mm256_srai_epi32(n, 1), rest = _mm256_sub_epi32(n, half), one = _mm256_set1_epi32(127);
    const auto power = [&](__m256i e) { return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(e, one), 23)); };
    return _mm256_mul_ps(_mm256_mul_ps(x, power(half)), power(rest));
}

inline Floats scale(Floats x, Floats whole) { return {scale(x.a, whole.a), scale(x.b, whole.b)}; }

inline float sum_of(Floats x) {
    const __m256 eight = _mm256_add_ps(x.a, x.b);
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

inline float largest_of(Floats x) {
    const __m256 eight = _mm256_max_ps(x.a, x.b);
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}

inline Mask at_least(Floats x, Floats y) {
    return {_mm256_cmp_ps(x.a, y.a, _CMP_GE_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_GE_OQ)};
}
inline Mask above(Floats x, Floats y) {
    return {_mm256_cmp_ps(x.a, y.a, _CMP_GT_OQ), _mm256_cmp_ps(x.b, y.b, _CMP_GT_OQ)};
}
inline Mask both(Mask x, Mask y) { return {_mm256_and_ps(x.a, y.a), _mm256_and_ps(x.b, y.b)}; }

inline Floats choose(Mask which, Floats yes, Floats no) {
    return {_mm256_blendv_ps(no.a, yes.a, which.a), _mm256_blendv_ps(no.b, yes.b, which.b)};
}

inline __m256i load_256(const void *x) { return _mm256_loadu_si256(static_cast<const __m256i *>(x)); }
inline __m128i load_128(const void *x) { return _mm_loadu_si128(static_cast<const __m128i *>(x)); }

inline Ints broadcast_word(int32_t x) { return {_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
inline Ints load_words(const void *x) { return {load_256(x), load_256(static_cast<const char *>(x) + 32)}; }
inline Floats as_floats(Ints x) { return {_mm256_castsi256_ps(x.a), _mm256_castsi256_ps(x.b)}; }
inline Floats number(int32_t word) { return as_floats(broadcast_word(word)); }
inline Floats to_floats(Ints x) { return {_mm256_cvtepi32_ps(x.a), _mm256_cvtepi32_ps(x.b)}; }
inline Ints to_ints(Floats x) { return {_mm256_cvtps_epi32(x.a), _mm256_cvtps_epi32(x.b)}; }
inline Ints plus(Ints x, Ints y) { return {_mm256_add_epi32(x.a, y.a), _mm256_add_epi32(x.b, y.b)}; }

inline int sum_of(Ints x) {
    alignas(32) int32_t eight[8];
    _mm256_store_si256(reinterpret_cast<__m256i *>(eight), _mm256_add_epi32(x.a, x.b));
    int sum = 0;
    for (int one : eight) sum += one;
    return sum;
}

inline Floats first_halves(Ints x) { return as_floats({_mm256_slli_epi32(x.a, 16), _mm256_slli_epi32(x.b, 16)}); }

inline Floats second_halves(Ints x) {
    const __m256i high = _mm256_set1_epi32(0xffff0000);
    return as_floats({_mm256_and_si256(x.a, high), _mm256_and_si256(x.b, high)});
}

inline Ints low_halves(Ints x) {
    const __m256i low = _mm256_set1_epi8(15);
    return {_mm256_and_si256(x.a, low), _mm256_and_si256(x.b, low)};
}

inline Ints high_halves(Ints x) { return low_halves({_mm256_srli_epi16(x.a, 4), _mm256_srli_epi16(x.b, 4)}); }

inline Ints look_up(const uint8_t *table, Ints x) {
    const __m256i both = _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i *>(table)));
    return {_mm256_shuffle_epi8(both, x.a), _mm256_shuffle_epi8(both, x.b)};
}

// Never the faster way here: see `troth_pairs_are_faster`.
inline Floats add_pairs(Floats sum, Ints x, Ints y) {
    return fma(second_halves(x), second_halves(y), fma(first_halves(x), first_halves(y), sum));
}

constexpr int BYTE_OFFSET = 128;
#ifdef __AVXVNNI__
using FourBytes = __m256i;
constexpr bool ROWS_ARE_WIDENED = false;
inline FourBytes four_bytes(const int32_t *row) { return _mm256_set1_epi32(row[0]); }
// By name, as in `vectors_avx512.h`.
inline __m256i add_bytes(__m256i sum, __m256i x, FourBytes y) {
    asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(x), "x"(y));
    return sum;
}
inline __m256i add_small_bytes(__m256i sum, __m256i x, __m256i y) { return add_bytes(sum, x, y); }
#else
struct FourBytes {
    __m256i even, odd;
};
constexpr bool ROWS_ARE_WIDENED = true;
inline FourBytes four_bytes(const int32_t *row) { return {_mm256_set1_epi32(row[0]), _mm256_set1_epi32(row[1])}; }
inline __m256i add_bytes(__m256i sum, __m256i x, FourBytes y) {
    const __m256i even = _mm256_and_si256(x, _mm256_set1_epi16(255)), odd = _mm256_srli_epi16(x, 8);
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(even, y.even));
    return _mm256_add_epi32(sum, _mm256_madd_epi16(odd, y.odd));
}

inline __m256i add_small_bytes(__m256i sum, __m256i x, __m256i y) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(x, y), _mm256_set1_epi16(1)));
}
#endif

inline Ints add_bytes(Ints sum, Ints x, FourBytes y) { return {add_bytes(sum.a, x.a, y), add_bytes(sum.b, x.b, y)}; }

inline Ints add_small_bytes(Ints sum, Ints x, Ints y) {
    return {add_small_bytes(sum.a, x.a, y.a), add_small_bytes(sum.b, x.b, y.b)};
}

inline Floats load_half(const void *x) {
    return {_mm256_cvtph_ps(load_128(x)), _mm256_cvtph_ps(load_128(static_cast<const char *>(x) + 16))};
}

inline Floats load_bf16(const uint16_t *x) {
    const __m256i a = _mm256_cvtepu16_epi32(load_128(x)), b = _mm256_cvtepu16_epi32(load_128(x + 8));
    return first_halves({a, b});
}

// The two registers' numbers, which fit into 16 bits, in one.
inline __m256i narrow(Ints x) { return _mm256_permute4x64_epi64(_mm256_packs_epi32(x.a, x.b), 0xd8); }

inline void store_bytes(char *to, Ints x) {
    const __m256i wide = narrow(x);
    const __m128i y = _mm_packs_epi16(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i *>(to), y);
}

// To the nearest, of two the even one: the upper halves, with their signs.
inline void store_bf16(uint16_t *to, Floats x) {
    const auto upper = [](__m256 part) {
        const __m256i bits = _mm256_castps_si256(part);
        const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
        return _mm256_srai_epi32(_mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff))), 16);
    };
    _mm256_storeu_si256(reinterpret_cast<__m256i *>(to), narrow({upper(x.a), upper(x.b)}));
}

inline Floats load_int8(const char *x) {
    return to_floats({_mm256_cvtepi8_epi32(load_128(x)), _mm256_cvtepi8_epi32(_mm_srli_si128(load_128(x), 8))});
}

inline Floats load_fp8_over_256(const char *x) {
    const __m256i wide = _mm256_slli_epi16(_mm256_cvtepi8_epi16(load_128(x)), 7);
    const __m256i half = _mm256_and_si256(wide, _mm256_set1_epi16(int16_t(0xbfff)));
    return {_mm256_cvtph_ps(_mm256_castsi256_si128(half)), _mm256_cvtph_ps(_mm256_extracti128_si256(half, 1))};
}

inline void store_int8(char *to, Ints x) { store_bytes(to, x); }

inline void store_widened(int16_t *to, Ints x) {
    const __m256i evens_first = _mm256_shufflelo_epi16(narrow(x), 0xd8);
    _mm256_storeu_si256(reinterpret_cast<__m256i *>(to), _mm256_shufflehi_epi16(evens_first, 0xd8));
}

inline void store_fp8(char *to, Floats x) {
    const auto rounded = [](__m256 size, __m256 signed_one) {
        const __m256i bits = _mm256_castps_si256(size);
        const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 20), _mm256_set1_epi32(1));
        const __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7ffff)));
        const __m256i normal = _mm256_sub_epi32(_mm256_srli_epi32(up, 20), _mm256_set1_epi32((127 - 7) << 3));
        const __m256i small = _mm256_cvtps_epi32(_mm256_mul_ps(size, _mm256_set1_ps(512.f)));
        const __m256i is_small = _mm256_castps_si256(_mm256_cmp_ps(size, _mm256_set1_ps(0x1p-6f), _CMP_LT_OQ));
        const __m256i y = _mm256_min_epi32(_mm256_blendv_epi8(normal, small, is_small), _mm256_set1_epi32(0x7e));
        // A negative one is itself less 128, so that it fits into a byte with a sign.
        return _mm256_sub_epi32(y, _mm256_slli_epi32(_mm256_srli_epi32(_mm256_castps_si256(signed_one), 31), 7));
    };
    const Floats size = abs(x);
    store_bytes(to, {rounded(size.a, x.a), rounded(size.b, x.b)});
}

}  // namespace troth
