// Sixteen float32 at a time: what the rows of a step need between their products.
#pragma once
#include <immintrin.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <initializer_list>

namespace troth {

constexpr float LOG2E = 1.44269504088896340736f;

// 2^x to about 2e-7 relative: the integral part goes into the exponent, the rest through a polynomial.
inline __m512 exp2(__m512 x) {
    x = _mm512_max_ps(x, _mm512_set1_ps(-150.f));
    __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    __m512 f = _mm512_sub_ps(x, whole);
    __m512 y = _mm512_set1_ps(1.535336188e-4f);
    for (float c : {1.339887440e-3f, 9.618437357e-3f, 5.550332548e-2f, 2.402264791e-1f, 6.931472028e-1f, 1.f})
        y = _mm512_fmadd_ps(y, f, _mm512_set1_ps(c));
    return _mm512_scalef_ps(y, whole);
}

inline __m512 sigmoid(__m512 x) {
    __m512 one = _mm512_set1_ps(1.f);
    return _mm512_div_ps(one, _mm512_add_ps(one, exp2(_mm512_mul_ps(x, _mm512_set1_ps(-LOG2E)))));
}

inline __m512 tanh(__m512 x) {
    __m512 one = _mm512_set1_ps(1.f);
    __m512 e = exp2(_mm512_mul_ps(_mm512_min_ps(x, _mm512_set1_ps(40.f)), _mm512_set1_ps(2 * LOG2E)));
    return _mm512_sub_ps(one, _mm512_div_ps(_mm512_set1_ps(2.f), _mm512_add_ps(e, one)));
}

inline float bf16_to_float(uint16_t x) {
    uint32_t bits = uint32_t(x) << 16;
    float y;
    std::memcpy(&y, &bits, 4);
    return y;
}

inline __m512 load_bf16(const uint16_t *x) {
    __m512i wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i *>(x)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(wide, 16));
}

inline void store_bf16(uint16_t *to, __m512 x) {
    __m256bh y = _mm512_cvtneps_pbh(x);
    std::memcpy(to, &y, 32);
}

inline uint16_t to_bf16(float x) {
    uint16_t y[16];
    store_bf16(y, _mm512_set1_ps(x));
    return y[0];
}

// Sixteen 8-bit numbers: whole ones, or floats in e4m3 (2209.05433), which float16 holds but for a factor of 256.
inline __m512 load_int8(const char *x) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i *>(x))));
}

inline __m512 load_fp8_over_256(const char *x) {
    const __m256i wide = _mm256_slli_epi16(_mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i *>(x))), 7);
    return _mm512_cvtph_ps(_mm256_and_si256(wide, _mm256_set1_epi16(int16_t(0xbfff))));
}

inline __m128i to_int8(__m512 x) { return _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(x)); }

// Of numbers up to 448 without their signs, to the nearest, of two the even one.
inline __m128i to_fp8(__m512 x) {
    const __m512i bits = _mm512_castps_si512(_mm512_abs_ps(x));
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 20), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7ffff)));
    __m512i y = _mm512_sub_epi32(_mm512_srli_epi32(rounded, 20), _mm512_set1_epi32((127 - 7) << 3));
    const __mmask16 small = _mm512_cmp_ps_mask(_mm512_abs_ps(x), _mm512_set1_ps(0x1p-6f), _CMP_LT_OQ);
    y = _mm512_mask_cvtps_epi32(y, small, _mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(512.f)));
    y = _mm512_min_epi32(y, _mm512_set1_epi32(0x7e));
    const __m512i sign = _mm512_and_si512(_mm512_srli_epi32(_mm512_castps_si512(x), 24), _mm512_set1_epi32(0x80));
    return _mm512_cvtepi32_epi8(_mm512_or_si512(y, sign));
}

// All sizes are multiples of 16. Sums go lane by lane and then over the lanes, the same way whatever else is computed.
inline float sum_of_squares(const float *x, int size) {
    __m512 sum = _mm512_setzero_ps();
    for (int i = 0; i < size; i += 16) {
        __m512 v = _mm512_loadu_ps(x + i);
        sum = _mm512_fmadd_ps(v, v, sum);
    }
    return _mm512_reduce_add_ps(sum);
}

// y = x / rms(x) * weight; y may be x.
inline void rms_norm(float *y, const float *x, const float *weight, int size, float eps) {
    __m512 scale = _mm512_set1_ps(1.f / std::sqrt(sum_of_squares(x, size) / float(size) + eps));
    for (int i = 0; i < size; i += 16)
        _mm512_storeu_ps(y + i, _mm512_mul_ps(_mm512_mul_ps(_mm512_loadu_ps(x + i), scale), _mm512_loadu_ps(weight + i)));
}

inline void add(float *to, const float *x, float factor, int size) {
    for (int i = 0; i < size; i += 16)
        _mm512_storeu_ps(to + i, _mm512_fmadd_ps(_mm512_loadu_ps(x + i), _mm512_set1_ps(factor), _mm512_loadu_ps(to + i)));
}

}  // namespace troth
