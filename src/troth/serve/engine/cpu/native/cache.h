// How the keys and values of one token and head come into their block of the cache, as attention.h reads them.
#pragma once
#include "latent_attention.h"

namespace troth {

constexpr float LEAST_SCALE = 1e-30f;  // of numbers that are all zero

// A head's block of 16 tokens.
struct CacheBlock {
    char *keys, *values;  // without values where they are the beginning of the keys
    float *key_scales, *value_scales;  // in 8 bit; a latent key's 16 are followed by those of its turned part
    int size, latent;                  // of a key, and of the latent that it begins with or 0

    void keep_floats(int lane, const float *k, const float *v) const {
        float *key = reinterpret_cast<float *>(keys) + lane;
        for (int d = 0; d < size; d++) key[d * BLOCK] = k[d];
        if (values) std::memcpy(reinterpret_cast<float *>(values) + lane * size, v, size * 4);
    }

    void keep_bf16(int lane, const float *k, const float *v) const {
        alignas(64) uint16_t narrow[MOST_KEY];
        for (int d = 0; d < size; d += 16) store_bf16(narrow + d, load(k + d));
        uint32_t *key = reinterpret_cast<uint32_t *>(keys) + lane;
        for (int d = 0; d < size / 2; d++) std::memcpy(key + d * BLOCK, narrow + 2 * d, 4);
        if (!values) return;
        for (int d = 0; d < size; d += 16) store_bf16(narrow + d, load(v + d));
        uint16_t *value = reinterpret_cast<uint16_t *>(values) + (lane / 2) * size * 2 + lane % 2;
        for (int d = 0; d < size; d++) value[2 * d] = narrow[d];
    }

    template <int KIND> void keep_bytes(int lane, const float *k, const float *v) const {
        alignas(64) char narrow[MOST_KEY];
        const int first = latent ? latent : size;
        key_scales[lane] = quantise<KIND>(narrow, k, first);
        if (latent) key_scales[BLOCK + lane] = quantise<KIND>(narrow + first, k + first, size - first);
        for (int d = 0; d < size; d++) keys[d * BLOCK + lane] = narrow[d];
        if (values) value_scales[lane] = quantise<KIND>(values + lane * size, v, size);
    }

  private:
    // The factor that attention multiplies the numbers with.
    template <int KIND> static float quantise(char *to, const float *x, int size) {
        Floats most = zeros();
        for (int d = 0; d < size; d += 16) most = max(most, abs(load(x + d)));
        const float scale = std::max(largest_of(most) / (KIND == WIDE_INT8 ? 127.f : 448.f), LEAST_SCALE);
        for (int d = 0; d < size; d += 16) {
            const Floats scaled = load(x + d) / broadcast(scale);
            if constexpr (KIND == WIDE_INT8) store_int8(to + d, to_ints(scaled));
            else store_fp8(to + d, scaled);
        }
        return KIND == WIDE_INT8 ? scale : 256.f * scale;
    }
};

}  // namespace troth
