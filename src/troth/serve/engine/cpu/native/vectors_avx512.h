// Sixteen numbers of 32 bit in one register of AVX-512, with products of bytes (VNNI) or without. `vectors_avx2.h` says
// the same in two of AVX2, `vectors_neon.h` in four of NEON; with these, one source gives a library for each kind of
// processor, and the same results but for bfloat16 in pairs.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

namespace troth {

using Floats = __m512;
using Ints = __m512i;  // whole numbers, or words of weights
using Mask = __mmask16;

// Of 16 outputs, whose sums stay in registers when this many rows are multiplied at once.
constexpr int columns_at_once(int) { return 4; }

inline Floats zeros() { return _mm512_setzero_ps(); }
inline Floats broadcast(float x) { return _mm512_set1_ps(x); }
inline Floats counted() { return _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15); }
inline Floats load(const float *x) { return _mm512_loadu_ps(x); }
inline void store(float *to, Floats x) { _mm512_storeu_ps(to, x); }

// x * y + z, rounded once.
inline Floats fma(Floats x, Floats y, Floats z) { return _mm512_fmadd_ps(x, y, z); }
inline Floats max(Floats x, Floats y) { return _mm512_max_ps(x, y); }
inline Floats min(Floats x, Floats y) { return _mm512_min_ps(x, y); }
inline Floats abs(Floats x) { return _mm512_abs_ps(x); }
inline Floats round(Floats x) { return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
// x * 2^whole, of whole numbers from -150 on.
inline Floats scale(Floats x, Floats whole) { return _mm512_scalef_ps(x, whole); }
inline float sum_of(Floats x) { return _mm512_reduce_add_ps(x); }
inline float largest_of(Floats x) { return _mm512_reduce_max_ps(x); }

inline Mask at_least(Floats x, Floats y) { return _mm512_cmp_ps_mask(x, y, _CMP_GE_OQ); }
inline Mask above(Floats x, Floats y) { return _mm512_cmp_ps_mask(x, y, _CMP_GT_OQ); }
inline Mask both(Mask x, Mask y) { return x & y; }
inline Floats choose(Mask which, Floats yes, Floats no) { return _mm512_mask_mov_ps(no, which, yes); }

inline Ints broadcast_word(int32_t x) { return _mm512_set1_epi32(x); }
inline Ints load_words(const void *x) { return _mm512_loadu_si512(x); }
inline Floats as_floats(Ints x) { return _mm512_castsi512_ps(x); }
inline Floats number(int32_t word) { return as_floats(broadcast_word(word)); }  // a float32
inline Floats to_floats(Ints x) { return _mm512_cvtepi32_ps(x); }
inline Ints to_ints(Floats x) { return _mm512_cvtps_epi32(x); }  // the nearest, of two the even one
inline Ints plus(Ints x, Ints y) { return _mm512_add_epi32(x, y); }
inline int sum_of(Ints x) { return _mm512_reduce_add_epi32(x); }

// Of words that hold two bfloat16, the first and the second; of bytes that hold two numbers of 4 bit likewise.
inline Floats first_halves(Ints x) { return as_floats(_mm512_slli_epi32(x, 16)); }
inline Floats second_halves(Ints x) { return as_floats(_mm512_and_si512(x, _mm512_set1_epi32(0xffff0000))); }
inline Ints low_halves(Ints x) { return _mm512_and_si512(x, _mm512_set1_epi8(15)); }
inline Ints high_halves(Ints x) { return _mm512_and_si512(_mm512_srli_epi16(x, 4), _mm512_set1_epi8(15)); }

// For each byte, which is less than 16, what a table has there.
inline Ints look_up(const uint8_t *table, Ints x) {
    const __m128i *place = reinterpret_cast<const __m128i *>(table);
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_load_si128(place)), x);
}

// sum + the products of words of two bfloat16; of words of four bytes, those of x without a sign. These stand for
// numbers that are 128 less, of which BYTE_OFFSET is left to take off the sum; y's are four of a row of 8-bit numbers.
constexpr int BYTE_OFFSET = 128;
#ifdef __AVX512VNNI__
// Which some of those have who have VNNI, and none of the others: see `troth_has_pairs`.
inline Floats add_pairs(Floats sum, Ints x, Ints y) {
    asm("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(x), "v"(y));
    return sum;
}
using FourBytes = Ints;
constexpr bool ROWS_ARE_WIDENED = false;
inline FourBytes four_bytes(const int32_t *row) { return broadcast_word(row[0]); }
// By name: with its own function for it GCC 12 copies each sum into another register and back, 1.3 times as long.
inline Ints add_bytes(Ints sum, Ints x, FourBytes y) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(y));
    return sum;
}
// The same where x's bytes are less than 32.
inline Ints add_small_bytes(Ints sum, Ints x, Ints y) { return add_bytes(sum, x, y); }
#else
inline Floats add_pairs(Floats sum, Ints x, Ints y) {
    return fma(second_halves(x), second_halves(y), fma(first_halves(x), first_halves(y), sum));
}
// In 16 bits, the even bytes and the odd ones: products of bytes would not fit into the sums that there are for them.
struct FourBytes {
    Ints even, odd;
};
constexpr bool ROWS_ARE_WIDENED = true;
inline FourBytes four_bytes(const int32_t *row) { return {broadcast_word(row[0]), broadcast_word(row[1])}; }
inline Ints add_bytes(Ints sum, Ints x, FourBytes y) {
    const Ints even = _mm512_and_si512(x, _mm512_set1_epi16(255)), odd = _mm512_srli_epi16(x, 8);
    sum = plus(sum, _mm512_madd_epi16(even, y.even));
    return plus(sum, _mm512_madd_epi16(odd, y.odd));
}
inline Ints add_small_bytes(Ints sum, Ints x, Ints y) {
    return plus(sum, _mm512_madd_epi16(_mm512_maddubs_epi16(x, y), _mm512_set1_epi16(1)));
}
#endif

inline Floats load_half(const void *x) { return _mm512_cvtph_ps(_mm256_loadu_si256(static_cast<const __m256i *>(x))); }

inline Floats load_bf16(const uint16_t *x) {
    const __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(x)));
    return as_floats(_mm512_slli_epi32(wide, 16));
}

// To the nearest, of two the even one: the upper halves.
inline void store_bf16(uint16_t *to, Floats x) {
    const __m512i bits = _mm512_castps_si512(x), odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), broadcast_word(1));
    const __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, broadcast_word(0x7fff)));
    _mm256_storeu_si256(reinterpret_cast<__m256i *>(to), _mm512_cvtepi32_epi16(_mm512_srli_epi32(up, 16)));
}

// Sixteen 8-bit numbers: whole ones, or floats in e4m3 (2209.05433), which float16 holds but for a factor of 256.
inline Floats load_int8(const char *x) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i *>(x))));
}

inline Floats load_fp8_over_256(const char *x) {
    const __m256i wide = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i *>(x)));
    const __m256i half = _mm256_slli_epi16(wide, 7);
    return _mm512_cvtph_ps(_mm256_and_si256(half, _mm256_set1_epi16(int16_t(0xbfff))));
}

inline void store_int8(char *to, Ints x) {
    _mm_storeu_si128(reinterpret_cast<__m128i *>(to), _mm512_cvtsepi32_epi8(x));
}

// Sixteen 8-bit numbers in 16 bits each, of every four the even ones first.
inline void store_widened(int16_t *to, Ints x) {
    const __m256i evens_first = _mm256_shufflelo_epi16(_mm512_cvtepi32_epi16(x), 0xd8);
    _mm256_storeu_si256(reinterpret_cast<__m256i *>(to), _mm256_shufflehi_epi16(evens_first, 0xd8));
}

// Of numbers up to 448 without their signs, to the nearest, of two the even one.
inline void store_fp8(char *to, Floats x) {
    const __m512i bits = _mm512_castps_si512(_mm512_abs_ps(x));
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 20), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7ffff)));
    __m512i y = _mm512_sub_epi32(_mm512_srli_epi32(rounded, 20), _mm512_set1_epi32((127 - 7) << 3));
    const __mmask16 small = _mm512_cmp_ps_mask(_mm512_abs_ps(x), _mm512_set1_ps(0x1p-6f), _CMP_LT_OQ);
    y = _mm512_mask_cvtps_epi32(y, small, _mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(512.f)));
    y = _mm512_min_epi32(y, _mm512_set1_epi32(0x7e));
    const __m512i sign = _mm512_and_si512(_mm512_srli_epi32(_mm512_castps_si512(x), 24), _mm512_set1_epi32(0x80));
    _mm_storeu_si128(reinterpret_cast<__m128i *>(to), _mm512_cvtepi32_epi8(_mm512_or_si512(y, sign)));
}

}  // namespace troth
