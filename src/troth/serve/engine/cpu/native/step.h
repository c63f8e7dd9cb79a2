// One step of a decoder: tokens of many sequences in, scores over the vocabulary out. `model/decoder.py` says the same
// in torch. A step is a row of phases; each phase shares its tasks among the threads, reads each weight that it needs
// once, and allocates nothing.
#pragma once
#include "adapters.h"
#include "draw.h"
#include "feed_forward.h"
#include "step_latents.h"

namespace troth {

class Decoder {
  public:
    Decoder(const Model &whole, int most, int threads)
        : model(whole), pool(threads), hidden(up_to(model.hidden, PANEL)), h(size_t(most) * hidden * 4),
          delta(size_t(most) * hidden * 4), normed(most, model.hidden), joint(model.join.outputs ? most : 0, 2 * model.hidden), adapters(model, most), attention(model, most),
          latents(model, most), units(model, most),
          live(most), wanted_row(most) {}

    // Scores of the wanted rows, where `logits` is not null; of all rows the hidden states after the last norm, where
    // `states` is not null. A module is given the states that came before, one for each token.
    void step(
        const int32_t *tokens, int rows, const float *given, const Span *spans, int count, const int32_t *wanted,
        int wants, float *logits, float *states, int32_t *experts, float *shares
    ) {
        live_count = rows;
        for (int i = 0; i < rows; i++) live[i] = i, wanted_row[i] = 0;
        for (int i = 0; i < wants; i++) wanted_row[wanted[i]] = 1;
        adapters.plan(spans, count);
        attention.plan(spans, count);
        pool.run(rows, [&](int row) {
            attention.turn(row);
            if (given) join(row, tokens[row], given + size_t(row) * model.hidden);
            else embed(tokens[row], h.floats() + size_t(row) * hidden);
        });
        if (given)
            adapters.product(pool, model.join, joint.rows, live.data(), rows, [&](int row, int panel, const float *out) {
                std::memcpy(h.floats() + size_t(row) * hidden + PANEL * panel, out, PANEL * 4);
            });
        pool.run(rows, [&](int row) {
            normalise(row, model.layer[0].input_norm, model.layer[0].qkv.kind, normed.rows);
        });
        for (int i = 0; i < model.layers; i++) {
            const Layer &layer = model.layer[i];
            const bool last = i + 1 == model.layers, spares = last && !states;
            const auto keep = [&](int row, int panel, const float *out) {
                std::memcpy(attention.qkv.floats() + size_t(row) * attention.qkv_width + PANEL * panel, out, PANEL * 4);
            };
            adapters.product(pool, layer.qkv, normed.rows, live.data(), live_count, keep);
            if (model.latent) latents.keep(pool, layer, attention, adapters, live_count);
            else pool.run(live_count, [&](int row) { attention.keep(layer, row); });
            if (spares && !wants) return;
            attention.run(pool, layer, spares ? wanted_row.data() : nullptr);
            if (spares) {
                std::copy_n(wanted, wants, live.begin());
                live_count = wants;
            }
            if (model.latent) latents.join(pool, layer, attention, live.data(), live_count);
            else pool.run(live_count, [&](int i) { attention.join(layer, live[i]); });
            const Rows &joined = attention.joined.rows;
            adapters.product(pool, layer.o, joined, live.data(), live_count, [&](int i, int panel, const float *out) {
                std::memcpy(delta.floats() + size_t(live[i]) * hidden + PANEL * panel, out, PANEL * 4);
            });
            pool.run(live_count, [&](int i) {
                int row = live[i];
                advance(row, layer.post_attention_norm);
                normalise(row, layer.pre_mlp_norm, layer.units[0].gate_up.kind, normed.rows);
                if (layer.routed) normalise(row, layer.pre_mlp_norm, F32, units.routed.rows);
            });
            units.run(pool, layer, adapters, normed.rows, live.data(), live_count);
            for (int w = 0; experts && layer.routed && w < wants; w++) {
                const size_t to = (size_t(i) * wants + w) * model.top_k;
                units.report(spares ? w : wanted[w], experts + to, shares + to);
            }
            const float *norm = last ? model.final_norm : model.layer[i + 1].input_norm;
            const int kind = last ? model.head.kind : model.layer[i + 1].qkv.kind;
            pool.run(live_count, [&](int i) {
                units.combine(layer, i, delta.floats() + size_t(live[i]) * hidden);
                advance(live[i], layer.post_mlp_norm);
                if (last && states)
                    rms_norm(states + size_t(i) * model.hidden, h.floats() + size_t(live[i]) * hidden, norm,
                             model.hidden, model.eps);
                normalise(live[i], norm, kind, normed.rows);
            });
        }
        if (!logits) return;
        std::copy_n(wanted, wants, live.begin());
        live_count = wants;
        const auto keep = [&](int i, int panel, const float *out) {
            const int size = std::min(PANEL, model.vocabulary - PANEL * panel);
            std::memcpy(logits + size_t(i) * model.vocabulary + PANEL * panel, out, size * 4);
        };
        adapters.product(pool, model.head, normed.rows, live.data(), live_count, keep);
    }

    // A token from each row of scores, the rows `stride` apart.
    void draw(const float *scores, int stride, int vocabulary, const Draw *how, int rows, int32_t *tokens) {
        pool.run(rows, [&](int row) {
            tokens[row] = choices().draw(scores + size_t(row) * stride, vocabulary, how[row]);
        });
    }

    // What log-probabilities are made from, of each row of scores.
    void likeliest(
        const float *scores, int stride, int vocabulary, int rows, int most, double *sums, int32_t *tokens,
        float *highest
    ) {
        pool.run(rows, [&](int row) {
            const size_t at = size_t(row) * most;
            sums[row] =
                choices().likeliest(scores + size_t(row) * stride, vocabulary, most, tokens + at, highest + at);
        });
    }

  private:
    static Choices &choices() {
        thread_local static Choices own;
        return own;
    }

    void embed(int token, float *to) const {
        const Floats scale = broadcast(model.embedding_scale);
        const char *from = model.embedding + size_t(token) * model.hidden * (model.embedding_kind == F32 ? 4 : 2);
        for (int i = 0; i < model.hidden; i += 16) {
            Floats x = model.embedding_kind == F32 ? load(reinterpret_cast<const float *>(from) + i)
                                                   : load_bf16(reinterpret_cast<const uint16_t *>(from) + i);
            store(to + i, x * scale);
        }
    }

    // [norm(state); norm(embedding)] (DeepSeek-V3, 2412.19437, equation 21).
    void join(int row, int token, const float *state) {
        alignas(64) thread_local static std::vector<float> x;
        x.resize(2 * model.hidden);
        float *embedded = x.data() + model.hidden;
        rms_norm(x.data(), state, model.state_norm, model.hidden, model.eps);
        embed(token, embedded);
        rms_norm(embedded, embedded, model.embedding_norm, model.hidden, model.eps);
        joint.rows.put(model.join.kind, row, x.data(), 2 * model.hidden);
    }

    void normalise(int row, const float *norm, int kind, const Rows &to) {
        alignas(64) thread_local static std::vector<float> x;
        x.resize(hidden);
        rms_norm(x.data(), h.floats() + size_t(row) * hidden, norm, model.hidden, model.eps);
        to.put(kind, row, x.data(), model.hidden);
    }

    void advance(int row, const float *norm) {
        float *out = delta.floats() + size_t(row) * hidden;
        if (norm) rms_norm(out, out, norm, model.hidden, model.eps);
        add(h.floats() + size_t(row) * hidden, out, 1.f, model.hidden);
    }

    const Model model;
    Pool pool;
    const int hidden;
    int live_count = 0;
    Buffer h, delta;
    RowsBuffer normed, joint;
    Adapters adapters;
    Attention attention;
    LatentSides latents;
    FeedForward units;
    std::vector<int> live;
    std::vector<char> wanted_row;
};

}  // namespace troth
