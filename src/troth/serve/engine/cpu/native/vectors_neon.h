// Sixteen numbers of 32 bit in four registers of NEON, with products of bytes (dotprod) or without: what
// `vectors_avx512.h` says, operation by operation, and in sums over the sixteen in the same order.
#pragma once
#include <arm_neon.h>

#include <bit>
#include <cstdint>
#include <cstring>

namespace troth {

template <class Part> struct Four {
    Part a, b, c, d;
};
using Floats = Four<float32x4_t>;
using Ints = Four<int32x4_t>;
using Mask = Four<uint32x4_t>;

// There are 32 registers: four for every 16 outputs of a row, and some for what is multiplied.
constexpr int columns_at_once(int rows) { return rows == 1 ? 4 : rows == 2 ? 2 : 1; }

template <class F, class... Parts> inline auto each(F f, Four<Parts>... x) {
    return Four<decltype(f(x.a...))>{f(x.a...), f(x.b...), f(x.c...), f(x.d...)};
}

inline Floats operator+(Floats x, Floats y) { return each([](auto x, auto y) { return vaddq_f32(x, y); }, x, y); }
inline Floats operator-(Floats x, Floats y) { return each([](auto x, auto y) { return vsubq_f32(x, y); }, x, y); }
inline Floats operator*(Floats x, Floats y) { return each([](auto x, auto y) { return vmulq_f32(x, y); }, x, y); }
inline Floats operator/(Floats x, Floats y) { return each([](auto x, auto y) { return vdivq_f32(x, y); }, x, y); }

inline Floats broadcast(float x) { return {vdupq_n_f32(x), vdupq_n_f32(x), vdupq_n_f32(x), vdupq_n_f32(x)}; }
inline Floats zeros() { return broadcast(0.f); }
inline Floats load(const float *x) { return {vld1q_f32(x), vld1q_f32(x + 4), vld1q_f32(x + 8), vld1q_f32(x + 12)}; }
inline Floats counted() {
    constexpr float numbers[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return load(numbers);
}
inline void store(float *to, Floats x) {
    vst1q_f32(to, x.a), vst1q_f32(to + 4, x.b), vst1q_f32(to + 8, x.c), vst1q_f32(to + 12, x.d);
}

inline Floats fma(Floats x, Floats y, Floats z) {
    return each([](auto x, auto y, auto z) { return vfmaq_f32(z, x, y); }, x, y, z);
}

// Of a number and none, the number.
inline Floats max(Floats x, Floats y) { return each([](auto x, auto y) { return vmaxnmq_f32(x, y); }, x, y); }
inline Floats min(Floats x, Floats y) { return each([](auto x, auto y) { return vminnmq_f32(x, y); }, x, y); }
inline Floats abs(Floats x) { return each([](auto x) { return vabsq_f32(x); }, x); }
inline Floats round(Floats x) { return each([](auto x) { return vrndnq_f32(x); }, x); }

// In two steps, for 2^-150 is no number of its own; beyond 2^254 all is infinite.
inline Floats scale(Floats x, Floats whole) {
    const auto power = [](int32x4_t e) {
        return vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(e, vdupq_n_s32(127)), 23));
    };
    return each([&](auto x, auto whole) {
        const int32x4_t n = vcvtnq_s32_f32(vminnmq_f32(whole, vdupq_n_f32(254.f))), half = vshrq_n_s32(n, 1);
        return vmulq_f32(vmulq_f32(x, power(half)), power(vsubq_s32(n, half)));
    }, x, whole);
}

inline float sum_of(Floats x) {
    const float32x4_t four = vaddq_f32(vaddq_f32(x.a, x.c), vaddq_f32(x.b, x.d));
    const float32x2_t two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
    return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

inline float largest_of(Floats x) {
    return vmaxnmvq_f32(vmaxnmq_f32(vmaxnmq_f32(x.a, x.c), vmaxnmq_f32(x.b, x.d)));
}

inline Mask at_least(Floats x, Floats y) { return each([](auto x, auto y) { return vcgeq_f32(x, y); }, x, y); }
inline Mask above(Floats x, Floats y) { return each([](auto x, auto y) { return vcgtq_f32(x, y); }, x, y); }
inline Mask both(Mask x, Mask y) { return each([](auto x, auto y) { return vandq_u32(x, y); }, x, y); }

inline Floats choose(Mask which, Floats yes, Floats no) {
    return each([](auto which, auto yes, auto no) { return vbslq_f32(which, yes, no); }, which, yes, no);
}

inline uint8x16_t load_128(const void *x) { return vld1q_u8(static_cast<const uint8_t *>(x)); }

inline Ints broadcast_word(int32_t x) { return {vdupq_n_s32(x), vdupq_n_s32(x), vdupq_n_s32(x), vdupq_n_s32(x)}; }
inline Ints load_words(const void *x) {
    const auto word = [x](int at) { return vreinterpretq_s32_u8(load_128(static_cast<const uint8_t *>(x) + at)); };
    return {word(0), word(16), word(32), word(48)};
}
inline Floats as_floats(Ints x) { return each([](auto x) { return vreinterpretq_f32_s32(x); }, x); }
// Of a float GCC multiplies with the one lane that it is loaded into.
inline Floats number(int32_t word) { return broadcast(std::bit_cast<float>(word)); }
inline Floats to_floats(Ints x) { return each([](auto x) { return vcvtq_f32_s32(x); }, x); }
inline Ints to_ints(Floats x) { return each([](auto x) { return vcvtnq_s32_f32(x); }, x); }
inline Ints plus(Ints x, Ints y) { return each([](auto x, auto y) { return vaddq_s32(x, y); }, x, y); }
inline int sum_of(Ints x) { return vaddvq_s32(vaddq_s32(vaddq_s32(x.a, x.c), vaddq_s32(x.b, x.d))); }

inline Floats first_halves(Ints x) { return as_floats(each([](auto x) { return vshlq_n_s32(x, 16); }, x)); }
inline Floats second_halves(Ints x) {
    return as_floats(each([](auto x) { return vandq_s32(x, vdupq_n_s32(int32_t(0xffff0000))); }, x));
}
inline Ints low_halves(Ints x) { return each([](auto x) { return vandq_s32(x, vdupq_n_s32(0x0f0f0f0f)); }, x); }
inline Ints high_halves(Ints x) {
    const auto shifted = [](auto x) { return vreinterpretq_s32_u8(vshrq_n_u8(vreinterpretq_u8_s32(x), 4)); };
    return each(shifted, x);
}

inline Ints look_up(const uint8_t *table, Ints x) {
    const uint8x16_t all = vld1q_u8(table);
    return each([all](auto x) { return vreinterpretq_s32_u8(vqtbl1q_u8(all, vreinterpretq_u8_s32(x))); }, x);
}

// Never the faster way here (see `troth_pairs_are_faster`): the instruction for it, bfdot, rounds in a way of its own.
inline Floats add_pairs(Floats sum, Ints x, Ints y) {
    return fma(second_halves(x), second_halves(y), fma(first_halves(x), first_halves(y), sum));
}

// Both with signs.
inline int32x4_t add_signed_bytes(int32x4_t sum, int32x4_t x, int32x4_t y) {
    const int8x16_t first = vreinterpretq_s8_s32(x), second = vreinterpretq_s8_s32(y);
#ifdef __ARM_FEATURE_DOTPROD
    return vdotq_s32(sum, first, second);
#else
    // Two products fit into 16 bits, for no byte of a row is -128.
    const int16x8_t low = vmull_s8(vget_low_s8(first), vget_low_s8(second)), high = vmull_high_s8(first, second);
    return vpadalq_s16(sum, vpaddq_s16(low, high));
#endif
}

// With its first bit turned over a byte without a sign is one with a sign, 128 less.
constexpr int BYTE_OFFSET = 0;
using FourBytes = Ints;
constexpr bool ROWS_ARE_WIDENED = false;
inline void store_widened(int16_t *, Ints) {}
inline FourBytes four_bytes(const int32_t *row) { return broadcast_word(row[0]); }
inline Ints add_bytes(Ints sum, Ints x, FourBytes y) {
    const int32x4_t signs = vdupq_n_s32(int32_t(0x80808080));
    return each([&](auto sum, auto x, auto y) { return add_signed_bytes(sum, veorq_s32(x, signs), y); }, sum, x, y);
}
inline Ints add_small_bytes(Ints sum, Ints x, Ints y) { return each(add_signed_bytes, sum, x, y); }

inline Floats load_half(uint16x8_t x, uint16x8_t y) {
    const auto wide = [](uint16x4_t part) { return vcvt_f32_f16(vreinterpret_f16_u16(part)); };
    return {wide(vget_low_u16(x)), wide(vget_high_u16(x)), wide(vget_low_u16(y)), wide(vget_high_u16(y))};
}

inline Floats load_half(const void *x) {
    const uint8x16_t second = load_128(static_cast<const uint8_t *>(x) + 16);
    return load_half(vreinterpretq_u16_u8(load_128(x)), vreinterpretq_u16_u8(second));
}

inline Floats load_bf16(const uint16_t *x) {
    const auto wide = [x](int at) { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(x + at), 16)); };
    return {wide(0), wide(4), wide(8), wide(12)};
}

// To the nearest, of two the even one: the upper halves.
inline void store_bf16(uint16_t *to, Floats x) {
    const auto upper = [](float32x4_t part) {
        const uint32x4_t bits = vreinterpretq_u32_f32(part), odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
        return vaddhn_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
    };
    vst1q_u16(to, vcombine_u16(upper(x.a), upper(x.b))), vst1q_u16(to + 8, vcombine_u16(upper(x.c), upper(x.d)));
}

inline Floats load_int8(const char *x) {
    const int8x16_t bytes = vreinterpretq_s8_u8(load_128(x));
    const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_high_s8(bytes);
    const int32x4_t first = vmovl_s16(vget_low_s16(low)), third = vmovl_s16(vget_low_s16(high));
    return to_floats({first, vmovl_high_s16(low), third, vmovl_high_s16(high)});
}

inline Floats load_fp8_over_256(const char *x) {
    const int8x16_t bytes = vreinterpretq_s8_u8(load_128(x));
    const auto half = [](int16x8_t wide) { return vandq_u16(vreinterpretq_u16_s16(wide), vdupq_n_u16(0xbfff)); };
    return load_half(half(vshll_n_s8(vget_low_s8(bytes), 7)), half(vshll_high_n_s8(bytes, 7)));
}

inline void store_int8(char *to, Ints x) {
    const auto narrow = [](int32x4_t x, int32x4_t y) { return vqmovn_s16(vcombine_s16(vqmovn_s32(x), vqmovn_s32(y))); };
    vst1q_s8(reinterpret_cast<int8_t *>(to), vcombine_s8(narrow(x.a, x.b), narrow(x.c, x.d)));
}

inline void store_fp8(char *to, Floats x) {
    store_int8(to, each([](float32x4_t x) {
        const float32x4_t size = vabsq_f32(x);
        const int32x4_t bits = vreinterpretq_s32_f32(size), odd = vandq_s32(vshrq_n_s32(bits, 20), vdupq_n_s32(1));
        const int32x4_t up = vaddq_s32(bits, vaddq_s32(odd, vdupq_n_s32(0x7ffff)));
        const int32x4_t normal = vsubq_s32(vshrq_n_s32(up, 20), vdupq_n_s32((127 - 7) << 3));
        const int32x4_t small = vcvtnq_s32_f32(vmulq_f32(size, vdupq_n_f32(512.f)));
        const uint32x4_t is_small = vcltq_f32(size, vdupq_n_f32(0x1p-6f));
        const int32x4_t y = vminq_s32(vbslq_s32(is_small, small, normal), vdupq_n_s32(0x7e));
        // A negative one is itself less 128, so that it fits into a byte with a sign: its sign is -1 when shifted so.
        return vaddq_s32(y, vshlq_n_s32(vshrq_n_s32(vreinterpretq_s32_f32(x), 31), 7));
    }, x));
}

}  // namespace troth
