// Sixteen float32 at a time: what the rows of a step need between their products.
#pragma once
#include <cmath>
#include <initializer_list>

#if defined(__aarch64__)
#include "vectors_neon.h"
#elif defined(__AVX512F__)
#include "vectors_avx512.h"
#else
#include "vectors_avx2.h"
#endif

namespace troth {

constexpr float LOG2E = 1.44269504088896340736f;

// 2^x to about 2e-7 relative: the integral part goes into the exponent, the rest through a polynomial.
inline Floats exp2(Floats x) {
    x = max(x, broadcast(-150.f));
    const Floats whole = round(x), f = x - whole;
    Floats y = broadcast(1.535336188e-4f);
    for (float c : {1.339887440e-3f, 9.618437357e-3f, 5.550332548e-2f, 2.402264791e-1f, 6.931472028e-1f, 1.f})
        y = fma(y, f, broadcast(c));
    return scale(y, whole);
}

inline Floats sigmoid(Floats x) {
    const Floats one = broadcast(1.f);
    return one / (one + exp2(x * broadcast(-LOG2E)));
}

inline Floats tanh(Floats x) {
    const Floats one = broadcast(1.f), e = exp2(min(x, broadcast(40.f)) * broadcast(2 * LOG2E));
    return one - broadcast(2.f) / (e + one);
}

// All sizes are multiples of 16. Sums go lane by lane and then over the lanes, the same way whatever else is computed.
inline float sum_of_squares(const float *x, int size) {
    Floats sum = zeros();
    for (int i = 0; i < size; i += 16) sum = fma(load(x + i), load(x + i), sum);
    return sum_of(sum);
}

// y = x / rms(x) * weight; y may be x.
inline void rms_norm(float *y, const float *x, const float *weight, int size, float eps) {
    const Floats factor = broadcast(1.f / std::sqrt(sum_of_squares(x, size) / float(size) + eps));
    for (int i = 0; i < size; i += 16) store(y + i, load(x + i) * factor * load(weight + i));
}

inline void add(float *to, const float *x, float factor, int size) {
    for (int i = 0; i < size; i += 16) store(to + i, fma(load(x + i), broadcast(factor), load(to + i)));
}

}  // namespace troth
