// How the keys and values of one token and head come into their block of the cache, as attention.h reads them.
#pragma once
#include "latent_attention.h"

namespace troth {

constexpr float LEAST_SCALE = 1e-30f;  // of numbers that are all zero

// A head's block of 16 tokens.
struct CacheBlock {
    char *keys, *values;  // without values where they are the beginning of the keys
    float *key_scales, *value_scales;  // in 8 bit
    int size;

    void keep_floats(int lane, const float *k, const float *v) const {
        float *key = reinterpret_cast<float *>(keys) + lane;
        for (int d = 0; d < size; d++) key[d * BLOCK] = k[d];
        if (values) std::memcpy(reinterpret_cast<float *>(values) + lane * size, v, size * 4);
    }

    void keep_bf16(int lane, const float *k, const float *v) const {
        alignas(64) uint16_t narrow[MOST_KEY];
        for (int d = 0; d < size; d += 16) store_bf16(narrow + d, _mm512_loadu_ps(k + d));
        uint32_t *key = reinterpret_cast<uint32_t *>(keys) + lane;
        for (int d = 0; d < size / 2; d++) std::memcpy(key + d * BLOCK, narrow + 2 * d, 4);
        if (!values) return;
        for (int d = 0; d < size; d += 16) store_bf16(narrow + d, _mm512_loadu_ps(v + d));
        uint16_t *value = reinterpret_cast<uint16_t *>(values) + (lane / 2) * size * 2 + lane % 2;
        for (int d = 0; d < size; d++) value[2 * d] = narrow[d];
    }

    template <int KIND> void keep_bytes(int lane, const float *k, const float *v) const {
        alignas(64) char narrow[MOST_HEAD];
        key_scales[lane] = quantise<KIND>(narrow, k);
        for (int d = 0; d < size; d++) keys[d * BLOCK + lane] = narrow[d];
        value_scales[lane] = quantise<KIND>(values + lane * size, v);
    }

  private:
    // The factor that attention multiplies the numbers with.
    template <int KIND> float quantise(char *to, const float *x) const {
        __m512 most = _mm512_setzero_ps();
        for (int d = 0; d < size; d += 16) most = _mm512_max_ps(most, _mm512_abs_ps(_mm512_loadu_ps(x + d)));
        const float scale = std::max(_mm512_reduce_max_ps(most) / (KIND == WIDE_INT8 ? 127.f : 448.f), LEAST_SCALE);
        for (int d = 0; d < size; d += 16) {
            const __m512 scaled = _mm512_div_ps(_mm512_loadu_ps(x + d), _mm512_set1_ps(scale));
            _mm_storeu_si128(reinterpret_cast<__m128i *>(to + d), (KIND == WIDE_INT8 ? to_int8 : to_fp8)(scaled));
        }
        return KIND == WIDE_INT8 ? scale : 256.f * scale;
    }
};

}  // namespace troth
