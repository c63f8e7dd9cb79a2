// What the decoder's structures look like in memory; `library.py` mirrors them field by field.
#pragma once
#include <algorithm>

#include "matmul.h"

namespace troth {

// Goes up with every change that makes a library built before a wrong one.
constexpr int VERSION = 9;

// What a LoRA adapter adds to a weight's outputs, b (a x); without outputs where it leaves the weight alone.
struct Adapter {
    Matrix a, b;
};

// A gated unit, down(act(gate(x)) * up(x)): a routed expert, a shared one or a dense feed-forward. Each panel of
// `gate_up` holds 32 outputs of the gate and the same 32 of up.
struct Unit {
    Matrix gate_up, down;
};

// Of latent attention, whose layers join in `qkv` what gives the queries (or their own latent), the latent and the turned
// part of the key. Per head: `keys` turn the part of a query without positions into the space of latents, [latent, own],
// `values` turn a weighted sum of latents into the head's output.
struct Latents {
    Matrix queries;            // from the queries' latent; no outputs where they have none
    const float *query_norm, *norm;
    const Matrix *keys, *values;
};

struct Layer {
    const float *input_norm, *post_attention_norm, *pre_mlp_norm, *post_mlp_norm;  // the outer ones or null
    Latents latents;
    Matrix qkv, o;  // queries, keys, values, and with a gated attention the gates
    const float *q_norm, *k_norm, *sinks;  // or null
    Matrix router;  // float32; no outputs in a dense layer
    const float *expert_bias;
    const Unit *units;  // the routed ones, then those that every token goes through
    char *keys, *values;  // blocks of 16 tokens, see attention.h; without values where they are latents
    float *key_scales, *value_scales;  // of 8-bit numbers, [blocks, heads, 16]
    int32_t routed, others, rotary, window;  // window: tokens seen, itself included; 0 for all
};

enum Activation : int32_t { SILU = 0, GELU_TANH = 1, CLAMPED = 2 };
enum QKNorm : int32_t { NONE = 0, HEAD = 1, WIDTH = 2 };

struct Model {
    int32_t hidden, vocabulary, layers, heads, kv_heads, head_size;
    int32_t top_k, groups, top_groups, softmax_router, normalised_gates;
    int32_t qk_norm, gated_attention, activation, cache_kind, embedding_kind;
    // Numbers of a head that positions turn, and that it puts out. With latent attention a head of the cache, and of the
    // queries that read it, is a latent and a turned part; `own` is the rest of a query, `query_latent` may be 0.
    int32_t turned, value_size, latent, own, query_latent;
    int32_t rank;  // of the widest adapter, in whole panels; 0 without adapters
    float eps, embedding_scale, attention_scale, attention_softcap, temperature_from, rotary_scale;
    float router_softcap, route_scale, feed_forward_scale, swiglu_limit, swiglu_alpha, unused;
    const float *periods;  // [turned / 2]
    const char *embedding;
    const float *final_norm;
    Matrix head;
    const Layer *layer;
    // Of a module that guesses (multi-token prediction): what joins a state and the embedding of the token behind it.
    Matrix join;  // no outputs elsewhere
    const float *state_norm, *embedding_norm;

    // Of units that a row goes through, at most.
    int slots_a_row() const {
        int most = 0;
        for (int i = 0; i < layers; i++) most = std::max(most, (layer[i].routed ? top_k : 0) + layer[i].others);
        return most;
    }
};

// `count` tokens of one sequence from position `start` on, the rows `row`, `row` + 1, ... of the step.
struct Span {
    int32_t row, count, start, adapter;  // adapter: its number, or -1
    const int32_t *blocks[2];  // of layers that see everything, and of those with a window
};

}  // namespace troth
